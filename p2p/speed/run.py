"""The speed of an edit beside that of others: `make bench`, or `python -m p2p.speed.run`.

One step of an edit at Stable Diffusion 1.5's shapes with random weights, by ours, by diffusers and by the layout of
google/prompt-to-prompt; the included model's step beside onnxruntime; ten edits; programs from the shell; the rate of
each group of layers; two forms of each product; and how the time grows. Results are compared before anything is timed.
Writes docs/speed.md, .json and .png.

Other programs on the same cores change the ratios: run it on a quiet machine. It needs diffusers, and takes 16 GB of
memory and 4 GB in the folder for temporary files; on a GPU every contestant has a copy of the weights there.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.speed.run"))

import argparse
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from ldm.helpers.files import check_writable
from ldm.helpers.machine import multiplies_bfloat16, processor
from p2p.benchmark.run import commit
from p2p.speed import report
from p2p.speed.contestants import COMPILED, GRAPH, SHIPPED_STEP, STEP, TEN
from p2p.speed.models import Setting, draw_weights
from p2p.speed.rounds import BOUNDS, RUN_BOUND, contest, measured

LARGE, INCLUDED = "sd15", "stickers"
LIBRARIES = ("torch", "diffusers", "onnxruntime")


@dataclass(frozen=True)
class Plan:
    """How much is measured. Sides and sizes are positions of latents, an eighth of the pixels."""

    side: int  # of the large model
    rounds: int
    included_rounds: int  # of the included model's step, each of as many calls as an edit has steps
    steps: int  # of an edit
    sizes: tuple[int, ...]
    included_sizes: tuple[int, ...]


FULL = Plan(
    64, rounds=3, included_rounds=7, steps=30, sizes=(32, 48, 64, 96, 128), included_sizes=(32, 48, 64, 96, 128)
)
QUICK = Plan(32, rounds=3, included_rounds=3, steps=5, sizes=(16, 32), included_sizes=(32, 64))


def bfloat16_left_out(gpu: bool) -> str | None:
    """Why bfloat16 is not measured, if it isn't: emulated, its times would say nothing."""
    if gpu:
        return None if torch.cuda.is_bf16_supported() else "this GPU has no bfloat16"
    return None if multiplies_bfloat16() else "this processor is not known to have AVX-512 BF16 or AMX BF16"


def compiled_left_out(gpu: bool) -> str | None:
    """Why nothing is compiled by PyTorch, if it isn't."""
    if gpu:
        return None if find_spec("triton") else "it needs Triton"
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not which(compiler):
        return f"it needs a C++ compiler, and {compiler} is not installed"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.exists() else f"it needs Python's header files, and there is no {header}"


def versions() -> dict[str, str]:
    """Of Python, and of the libraries that are installed."""
    found = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def weights_drawn(setting: Setting) -> Iterator[Setting]:
    """The setting with a file of random weights, for as long as it is needed."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        draw_weights(setting.config.unet, file, setting.precision)
        yield replace(setting, weights=str(file))


def measure(plan: Plan, gpu: bool) -> dict:
    """Everything that is reported."""
    left_out = {}
    precisions = ["float32"]
    if reason := bfloat16_left_out(gpu):
        left_out["bfloat16"] = reason
    else:
        precisions.append("bfloat16")
    shipped_step = dict(SHIPPED_STEP)
    if gpu or not find_spec("onnxruntime") or not find_spec("onnxscript"):
        left_out["onnxruntime"] = "its graph runs on the CPU" if gpu else "it is not installed"
        shipped_step = {name: each for name, each in shipped_step.items() if name not in GRAPH}
    if reason := compiled_left_out(gpu):
        left_out["ours, compiled"] = reason
        shipped_step = {name: each for name, each in shipped_step.items() if name not in COMPILED}
    device = "cuda" if gpu else "cpu"
    large = Setting("", LARGE, plan.side, device=device, steps=plan.steps)
    included = replace(large, model=INCLUDED, side=16)
    turns = len(STEP) * (1 + plan.rounds) * len(precisions)
    turns += len(shipped_step) * (1 + plan.included_rounds) + len(TEN) * (1 + plan.rounds)
    turns += 3 * len(precisions) + (4 if gpu else 5)  # measurements that are no contests
    found: dict = {"left out": left_out, "step": {}, "roofline": {}, "forms": {}, "growth": {}}
    with tqdm(total=turns, unit="turn", file=sys.stderr) as bar:

        def alone(setting: Setting, name: str) -> dict:
            bar.set_postfix_str(name)
            made = measured(replace(setting, name=name))
            bar.update()
            return made

        for precision in precisions:
            bar.set_postfix_str("drawing weights")
            with weights_drawn(replace(large, dtype=precision)) as setting:
                found["step"][precision] = contest(STEP, setting, plan.rounds, 1, BOUNDS[precision], bar)
                found["roofline"][precision] = alone(setting, "roofline")
                found["forms"][precision] = alone(setting, "forms of products")
                sizes = alone(replace(setting, sizes=plan.sizes), "image size")
                found["growth"][f"image size, {LARGE}, {precision}"] = sizes
        bound = BOUNDS["float32"]
        found["included step"] = contest(shipped_step, included, plan.included_rounds, plan.steps, bound, bar)
        found["roofline"]["included model, float32"] = alone(included, "roofline")
        found["ten edits"] = contest(TEN, included, plan.rounds, 1, RUN_BOUND, bar)
        if not gpu:
            found["programs"] = alone(included, "programs")
        for name, setting in (
            ("image size", replace(included, sizes=plan.included_sizes)),
            ("targets", included),
            ("steps", included),
        ):
            found["growth"][f"{name}, included model, float32"] = alone(setting, name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller images and fewer rounds: minutes")
    parser.add_argument("--gpu", action="store_true", help="on a CUDA device")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/speed.md"),
        metavar="FILE.md",
        help="the report's page; its numbers and its figure go beside it (default: %(default)s)",
    )
    given = parser.parse_args()
    if given.gpu and not torch.cuda.is_available():
        raise ValueError("--gpu needs a CUDA device and a build of PyTorch for it, and there is none here")
    if not find_spec("diffusers"):
        raise ValueError("diffusers is not installed: pip install diffusers")
    if given.output.suffix != ".md":
        raise ValueError(f"--output is the report's page, a file that ends in .md, got {given.output}")
    given.output.parent.mkdir(exist_ok=True)
    for file in report.files(given.output):
        check_writable(file)
    plan = QUICK if given.quick else FULL
    about = {
        "commit": commit(),
        "command": "python -m p2p.speed.run" + " --quick" * given.quick + " --gpu" * given.gpu,
        "processor": torch.cuda.get_device_name() if given.gpu else processor(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "pixels": plan.side * 8,
        "steps": plan.steps,
    }
    for file in report.write(given.output, about | measure(plan, given.gpu)):
        print(file)
