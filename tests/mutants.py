"""Break each formula's functions, one change at a time, and see that a test of its row fails.

    python tests/mutants.py            every row
    python tests/mutants.py D7 D8      these rows; the others' results stay as they are

The table goes to tests/equations/mutants.csv, and from there into EQUATIONS.md. A mutant lives in a forked process of
its own: the code of one function is replaced by that of the changed source, and the tests marked with the row's id run.
"""

import argparse
import ast
import copy
import csv
import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # as pytest has it

from p2p.equations import index  # noqa: E402 found by the line above
from p2p.equations.register import FORMULAS  # noqa: E402 likewise

PER_FUNCTION = 10  # mutants of one function, evenly taken from all there are
SECONDS = 30  # a mutant that runs longer than this is killed by the clock

# what a row's formula rests on besides the functions that claim it
ALSO = {
    "D5": ["ldm.schedule.Schedule.alpha", "ldm.schedule.Schedule.signal", "ldm.schedule.Schedule.noise"],
    "D15": ["weights.training.train_diffusion.DiffusionLoss.__call__"],  # draws lines 2 to 4
    "C6": ["ldm.equations.table_layer.table_lines"],
    "C5": ["ldm.attention.SpatialTransformer"],
    "P2": ["p2p.experiments.baselines.blended", "p2p.experiments.baselines.inpaint"],
    "P1": ["p2p.algorithm.PromptToPrompt.denoise"],  # with tau above every step
    "P3": ["p2p.inject.explicit"],
    "P4": ["p2p.alpha.switch_time", "p2p.alpha.Window.compile"],
    "P10": ["p2p.mappers.copies"],
    "P9": ["p2p.alpha.window", "p2p.alpha.Window.compile"],
}

# changes that change nothing, with the reason
EQUIVALENT = {
    ("ldm.attention.element_wise", "k @ q -> q @ k"): "an inner product",
    ("ldm.attention.element_wise", "zip(a, values) -> zip(values, a)"): "a number times a vector, either way round",
    ("ldm.attention.SelfAttentionBlock.forward", "-2 -> 2"): "the same axes of four",
    ("ldm.attention.SpatialTransformer.forward", "-2 -> 2"): "the same axes of four",
    ("ldm.contrastive.contrastive_loss", "similarity(images, texts, scale) -> similarity(texts, images, scale)"): (
        "the loss is symmetric"
    ),
    ("ldm.contrastive.contrastive_loss", "S.log_softmax(dim=0) -> S.log_softmax(dim=-2)"): "the same axis of two",
    (
        "weights.training.train_diffusion.DiffusionLoss.__call__",
        "torch.rand((self.batch, 1), generator=generator) < DROPOUT -> "
        "torch.rand((self.batch, 1), generator=generator) <= DROPOUT",
    ): "they differ with probability 0",
    ("ldm.contrastive.similarity", "-1 -> 1"): "the same axis of two",
    ("ldm.contrastive.zero_shot", "-1 -> 1"): "the same axis of two",
    (
        "ldm.attention.attention_map",
        "torch.promote_types(Q.dtype, torch.float32) -> torch.promote_types(torch.float32, Q.dtype)",
    ): "the wider of two types, either way round",
    (
        "p2p.mappers.copies",
        "max(source.count, target.count) -> max(target.count, source.count)",
    ): "the larger of two",
    ("p2p.mappers.mapper", "max(len(source), len(target)) -> max(len(target), len(source))"): "the larger of two",
    ("p2p.experiments.sweeps.sweep", "measure(p, o) -> measure(o, p)"): "likeness is symmetric",
    (
        "ldm.equations.variational_bound.reverse_step",
        "schedule.alpha -> schedule.alpha_bar",
    ): "of one step they are the same",
    (
        "ldm.train.ldm_loss",
        "F.mse_loss(wide(unet(z_t, t - 1, context)), wide(schedule.ta -> "
        "F.mse_loss(wide(schedule.target(z_0, eps, t)), wide(unet(z_t",
    ): "a squared difference",
    (
        "ldm.train.ldm_loss",
        "torch.promote_types(x.dtype, torch.float32) -> torch.promote_types(torch.float32, x.dtype)",
    ): "the wider of two, either way round",
}


class Mutant(NamedTuple):
    """A changed function. `path` leads from the module to its code, through the names of classes and functions."""

    function: str
    kind: str
    change: str
    module: str
    path: tuple[str, ...]
    tree: ast.Module


SWAPPED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
SHIFTED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
NEIGHBOURS = {"t_prev": "t", "t": "t_prev", "abar_prev": "abar", "abar": "abar_prev", "alpha_bar": "alpha"}
NEIGHBOURS |= {"alpha": "alpha_bar", "n": "m", "signal": "noise", "noise": "signal"}


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(kind, what would stand in its place) for everything that can be done to one node."""
    new = copy.deepcopy(node)
    match node:
        case ast.BinOp(op=ast.Pow()):
            yield "root", node.left
        case ast.BinOp(op=ast.MatMult()):
            new.left, new.right = new.right, new.left
            yield "order", new
        case ast.BinOp(op=op) if type(op) in SWAPPED:
            new.op = SWAPPED[type(op)]()
            yield "sign", new
            if isinstance(op, ast.Sub | ast.Div):
                new = copy.deepcopy(node)
                new.left, new.right = new.right, new.left
                yield "order", new
        case ast.UnaryOp(op=ast.USub()):
            yield "sign", node.operand
        case ast.Call(func=ast.Attribute(attr="sqrt" | "exp" | "square" | "log" | "log1p"), args=[]):
            yield "root", node.func.value
        case ast.Call(func=ast.Attribute(attr="softmax" | "log_softmax"), keywords=[ast.keyword(arg="dim")]):
            new.keywords[0].value = ast.Constant(-2)
            yield "order", new
        case ast.Call(func=ast.Attribute(attr="detach"), args=[]):
            yield "other", node.func.value
        case ast.Call(func=ast.Attribute(attr="where"), args=[_, _, _]):
            new.args = [new.args[0], new.args[2], new.args[1]]
            yield "order", new
        case ast.Call(args=[first, second, *_]) if interchangeable(first, second):
            new.args = [new.args[1], new.args[0], *new.args[2:]]
            yield "order", new
        case ast.Attribute(attr="mT" | "T"):
            yield "order", node.value
        case ast.Compare(ops=[op]) if type(op) in SHIFTED:
            new.ops = [SHIFTED[type(op)]()]
            yield "index", new
        case ast.Name(id=name, ctx=ast.Load()) if name in NEIGHBOURS:
            new.id = NEIGHBOURS[name]
            yield "index", new
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in NEIGHBOURS:
            new.attr = NEIGHBOURS[name]
            yield "index", new
        case ast.Constant(value=bool(value)):
            yield "other", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "index", ast.Constant(value + 1)
        case ast.Constant(value=float(value)) if value:
            yield "other", ast.Constant(2 * value)
        case ast.Constant(value=str(value)) if "(h d)" in value:
            yield "order", ast.Constant(value.replace("(h d)", "(d h)"))


def interchangeable(one: ast.AST, other: ast.AST) -> bool:
    """Whether two arguments may be mistaken for each other."""
    return type(one) is type(other) and ast.unparse(one) != ast.unparse(other)


def skipped(node: ast.AST) -> bool:
    """Whether a part of a function is no part of its formula: docstrings, annotations, refusals of bad input."""
    if isinstance(node, ast.If):
        return all(isinstance(line, ast.Raise) for line in node.body)
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def sites(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """(parent, field, position) of every expression in a function's body."""
    for field, value in ast.iter_fields(node):
        if field in ("decorator_list", "annotation", "returns", "args") and not isinstance(node, ast.Call):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not skipped(child):
                if isinstance(child, ast.expr):
                    yield node, field, i
                yield from sites(child)


def find(tree: ast.AST, path: tuple[str, ...]) -> ast.AST:
    for name in path:
        tree = next(n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)
    return tree


def mutants_of(name: str) -> list[Mutant]:
    """Every change to a function, or to the methods of a class."""
    parts = name.split(".")
    depth = next(i for i in range(len(parts), 0, -1) if (ROOT.joinpath(*parts[:i]).with_suffix(".py")).exists())
    module, path = ".".join(parts[:depth]), tuple(parts[depth:])
    tree = ast.parse(ROOT.joinpath(*parts[:depth]).with_suffix(".py").read_text(encoding="utf-8"))
    target = find(tree, path)
    if isinstance(target, ast.ClassDef):
        methods = [n.name for n in target.body if isinstance(n, ast.FunctionDef)]
        return [mutant for method in methods for mutant in mutants_of(f"{name}.{method}")]
    known = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)} | {a.arg for a in target.args.args}
    found = []
    for parent, field, i in sites(target):
        old = getattr(parent, field) if i is None else getattr(parent, field)[i]
        for kind, new in changes(old):
            if isinstance(new, ast.Name) and new.id not in known:
                continue  # no slip of the pen: the name means nothing here
            put = lambda value, parent=parent, field=field, i=i: (
                setattr(parent, field, value) if i is None else getattr(parent, field).__setitem__(i, value)
            )
            put(ast.copy_location(new, old))
            changed = ast.fix_missing_locations(copy.deepcopy(tree))
            put(old)
            line = lambda node: ast.unparse(node)[:60]
            found.append(Mutant(name, kind, f"{line(old)} -> {line(new)}", module, path, changed))
    return found


def code_of(mutant: Mutant) -> CodeType:
    """The changed function's code, out of the whole module's, so that closures are as they were."""
    module = sys.modules[mutant.module]
    code = compile(mutant.tree, module.__file__, "exec", dont_inherit=True)
    for name in mutant.path:
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return code


def function_of(name: str) -> FunctionType:
    found = pkgutil.resolve_name(name)
    if isinstance(found, property):
        return found.fget
    return found.func if isinstance(found, cached_property) else found


class OnlyRow:
    """Of the tests that are collected, those with the row's mark."""

    def __init__(self, id: str):
        self.id = id

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [i for i in items if any(self.id in mark.args for mark in i.iter_markers("equation"))]


def preload(files: list[str]) -> None:
    """Import here what the tests import, once for all forks."""
    for file in files:
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for name in node.names:
                    getattr(module, name.name, None)  # some load on first use


def passes(id: str, files: list[str], mutant: Mutant | None = None) -> bool:
    """Whether the row's tests pass, in a process of their own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(SECONDS)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            if mutant:
                importlib.import_module(mutant.module)
                function_of(mutant.function).__code__ = code_of(mutant)
            # without shape checks and refused warnings: what is to be seen is whether the numbers are noticed;
            # and with nothing to load, since every mutant would load it again
            options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings="]
            options += ["--assert=plain", "--tb=no", *files]
            status = int(pytest.main(options, plugins=[OnlyRow(id)]))
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended)
    if code == 5:
        raise SystemExit(f"{id}: no test was found")
    return code == 0


def functions_of(id: str, found: tuple[index.Definition, ...]) -> list[str]:
    """The functions to break: the home and the others of `ldm`, and what else the row rests on.

    Of Prompt-to-Prompt's rows the home alone: the others make figures, which are looked at.
    """
    home, *others = [d.name for d in index.functions_of(FORMULAS[id], found)]
    return [home, *(name for name in others if name.startswith("ldm.")), *ALSO.get(id, [])]


def spread(mutants: list[Mutant]) -> list[Mutant]:
    """At most PER_FUNCTION of them, evenly, and some of every kind."""
    ordered = sorted(
        (m for m in mutants if (m.function, m.change) not in EQUIVALENT), key=lambda m: index.KINDS.index(m.kind)
    )
    count = min(PER_FUNCTION, len(ordered))
    return [ordered[i * len(ordered) // count] for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser("tests/mutants.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("ids", nargs="*", default=list(FORMULAS))
    ids = parser.parse_args().ids
    torch.set_num_threads(1)
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    importlib.import_module("conftest")
    found, marks = index.definitions(), list(index.tests())
    results = [m for m in index.mutants() if m["id"] not in ids]
    for id in ids:
        files = sorted({str(test.path) for marked, test in marks if marked == id})
        preload(files)
        chosen = [mutant for name in functions_of(id, found) for mutant in spread(mutants_of(name))]
        if not passes(id, files):
            raise SystemExit(f"{id}: its tests fail on the code as it is")
        for mutant in chosen:
            result = "survived" if passes(id, files, mutant) else "killed"
            row = dict(id=id, function=mutant.function, kind=mutant.kind, change=mutant.change, result=result)
            results.append(row | {"proof": index.proof(id, marks)})
            if result == "survived":
                print(f"{id} {mutant.function}: {mutant.change} survived", flush=True)
        print(f"{id}: {len(chosen)} mutants", flush=True)
        results.sort(key=lambda m: list(FORMULAS).index(m["id"]))
        with index.MUTANTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "function", "kind", "change", "result", "proof"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(results)


if __name__ == "__main__":
    main()
