"""The measurement of speed: its comparison of results, its counts and fits, and its report. No time is asserted."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ldm.attention import GEGLU
from ldm.equations.cost import flops
from ldm.helpers.memory import FORGET, Memory
from ldm.presets import PRESETS
from ldm.unet import UNet
from p2p.speed import programs, report, run
from p2p.speed.clock import finish
from p2p.speed.contestants import COMPILED, GRAPH, STEP
from p2p.speed.forms import products_of
from p2p.speed.growth import exponent, fitted
from p2p.speed.models import Setting, inputs, ours, theirs
from p2p.speed.roofline import Groups, needed, needed_by_attention
from p2p.speed.rounds import BOUNDS, check, difference, measured, started
from p2p.speed.verdict import Spread, at_the_machines_rates, faster, ratio, verdicts

ROOT = Path(__file__).parents[2]
INCLUDED = Setting("", "stickers", side=16)


# ---------------------------------------------------------------------------------------------------------------------
# results are compared before they are timed


@pytest.fixture(scope="module")
def results() -> dict[str, np.ndarray]:
    """One step of the included model by every contestant that needs no graph."""
    return {name: each.make(INCLUDED)().numpy() for name, each in STEP.items()}


CASES = {name: each.case for name, each in STEP.items()}


def test_all_contestants_compute_the_same(results):
    found = check(results, CASES, BOUNDS["float32"])
    assert found.keys() == STEP.keys()
    assert found["diffusers"] == found["reference layout"] == 0  # the others are compared with these


@pytest.mark.parametrize("name", ["ours", "diffusers, channels-last", "ours, explicit, soft alpha"])
def test_a_wrong_result_is_no_contest(results, name):
    wrong = results[name].copy()
    wrong[1, 0, :2, :2] += 0.1  # of the target, four numbers of 2048
    with pytest.raises(ValueError, match=f"^{name} differs from "):
        check(results | {name: wrong}, CASES, BOUNDS["float32"])


def test_a_result_that_is_not_finite_is_no_contest(results):
    with pytest.raises(ValueError, match="by nan"):
        check(results | {"ours": results["ours"] * np.nan}, CASES, BOUNDS["float32"])


def test_an_edit_left_out_is_no_contest(results):
    """By everyone: then no result differs from the one that it is compared with."""
    plain = {name: results["diffusers"] for name in results}
    with pytest.raises(ValueError, match="compute the same, though one edits in another way"):
        check(plain, CASES, BOUNDS["float32"])


def test_a_difference_is_relative():
    assert difference(np.array([3.0, 4.5]), np.array([3.0, 4.0])) == pytest.approx(0.1)  # 0.5 over 5


# ---------------------------------------------------------------------------------------------------------------------
# counts and fits


def test_operations_of_a_convolution():
    layer, x = nn.Conv2d(3, 5, 3, padding=1), torch.zeros(2, 3, 4, 6)
    # 27 products with their additions for each of 2 x 5 x 4 x 6 outputs
    assert needed(layer, x, layer(x)) == 2 * 27 * 240


def test_operations_of_linear_layers():
    layer, x = nn.Linear(3, 5), torch.zeros(2, 7, 3)
    assert needed(layer, x, layer(x)) == 2 * 3 * (2 * 7 * 5)
    gate = GEGLU(3, 5)
    assert needed(gate, x, gate(x)) == 2 * 3 * (2 * 7 * 2 * 5)  # the value and its gate


def test_operations_of_attention():
    Q, K, V = torch.zeros(2, 3, 5, 7), torch.zeros(2, 3, 11, 7), torch.zeros(2, 3, 11, 13)
    # 7 for each of 5 x 11 scores, 11 for each of 5 x 13 outputs, in 6 heads
    assert needed_by_attention(Q, K, V) == 2 * 6 * (5 * 11 * 7 + 5 * 13 * 11)


def test_groups_hold_every_operation_of_the_unet():
    """PyTorch's own count of the same call is the sum of the groups."""
    config = PRESETS["stickers"].unet
    unet = UNet(config).requires_grad_(False)
    x, context, t = torch.randn(1, 8, 16, 16), torch.randn(1, 32, 160), torch.tensor([9])
    groups = Groups("cpu")
    with groups.watching(unet) as attn_fn:
        unet(x, t, context, attn_fn)
    assert sum(groups.operations.values()) == flops(config, 8, side=16, tokens=32)
    assert groups.operations.keys() == groups.seconds.keys() == {"convolutions", "linear layers", "attention"}


def test_hooks_are_gone_afterwards():
    unet = UNet(PRESETS["stickers"].unet)
    with Groups("cpu").watching(unet):
        assert any(layer._forward_hooks for layer in unet.modules())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in unet.modules())


@pytest.mark.parametrize("p", [1.0, 2.0, 3.7])
def test_the_exponent_of_a_power(p):
    x = [1, 2, 5, 16]
    assert exponent(x, [0.3 * value**p for value in x]) == pytest.approx(p, abs=1e-12)  # rounding of four logarithms


def test_the_last_two_points_tell_what_grows_fastest():
    """x + x^4: between the two terms' exponents over all, and nearer to 4 at the end."""
    x = [0.5, 1.0, 2.0, 4.0]
    found = fitted({"x": x, "seconds": [[value + value**4] * 3 for value in x]})
    assert 1 < found["all"] < found["last two"] < 4
    assert found["last two"] == pytest.approx(np.log2((4 + 4**4) / (2 + 2**4)))


@torch.no_grad()
def test_both_forms_of_a_product_are_equal():
    found = products_of(Setting("", "stickers", side=16))
    names = [name for name in found if name.startswith("attention")]
    sides = ("16x16", "8x8", "4x4", "decoder, 16x16")
    assert names == [f"attention, {side} positions" for side in sides] and len(found) == 4 + 3 * 3
    for product in found.values():
        # float32 sums of at most 768 products of order 1, in another order
        torch.testing.assert_close(product.other(), product.usual(), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# models


def test_both_libraries_have_the_same_weights_in_the_layout_asked_for():
    unet = ours(INCLUDED).unet
    own = unet.down_blocks[0].resnets[0].conv1.weight
    for layout, dense in (("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last)):
        other = theirs(INCLUDED, layout).down_blocks[0].resnets[0].conv1.weight
        assert other.is_contiguous(memory_format=dense) and torch.equal(own, other)


def test_inputs_are_those_of_a_step_in_the_middle():
    z_t, context, empty = inputs(INCLUDED)
    assert (z_t.shape, context.shape, empty.shape) == ((2, 8, 16, 16), (2, 32, 160), (1, 32, 160))
    assert not torch.equal(z_t[0], z_t[1])  # equal latents would let a shortcut of the first step in
    assert torch.equal(z_t, inputs(INCLUDED).z_t)


# ---------------------------------------------------------------------------------------------------------------------
# the report


def made_up(bfloat16: bool = True, graph: bool = True) -> dict:
    """A report in round numbers: seconds 2 and 4 in two rounds, times each contestant's own."""
    entry = lambda case, scale, above=1e9: {
        "case": case,
        "seconds": [2 * scale, 4 * scale],
        "difference": 1e-7,
        "above": above,
    }
    step = {name: entry(each.case, 1.0) for name, each in STEP.items()}
    step |= {"diffusers": entry("outside", 1.25), "ours": entry("inside", 0.9, 2e8)}
    step |= {"reference layout": entry("inside", 3.0, 4e9)}
    rates = {
        "seconds": {"convolutions": 1.0, "linear layers": 0.5, "attention": 0.25},
        "operations": {"convolutions": 4 * 10**11, "linear layers": 10**11, "attention": 10**10},
        "whole": 2.0,
        "of one position": 0.25,
        "product": 4e11,
        "convolution": 5e11,
    }
    form = {"usual": [0.2, 0.4], "other": [0.1, 0.3], "used": True}
    precisions = ["float32", "bfloat16"][: 1 + bfloat16]
    left_out = {} if bfloat16 else {"bfloat16": "this processor has none"}
    return {
        "commit": "abc",
        "command": "python -m p2p.speed.run",
        "processor": "A processor, 2 cores",
        "threads": 2,
        "versions": {"Python": "3.13", "torch": "2"},
        "pixels": 512,
        "steps": 30,
        "left out": left_out | ({} if graph else {"onnxruntime": "it is not installed"}),
        "step": {precision: step for precision in precisions},
        "roofline": {name: rates for name in (*precisions, "included model, float32")},
        "forms": {precision: {"attention, 64x64 positions": form} for precision in precisions},
        "included step": ({"onnxruntime": entry("inside", 0.01)} if graph else {})
        | {
            "ours": entry("inside", 0.012),
            "ours, compiled": entry("inside", 0.011),
        },
        "ten edits": {"separately": entry("ten", 1.0), "recorded": entry("ten", 0.55)},
        "programs": {"import torch": [0.8, 1.0], "p2p --help": [0.1, 0.2], "p2p edit": [2.0, 3.0]},
        "growth": {"targets, included model, float32": {"x": [1, 2], "seconds": [[1.0], [2.0]]}},
    }


def test_ratios_are_of_one_round():
    assert ratio([1.0, 6.0, 3.0], [2.0, 4.0, 4.0]) == Spread(0.75, 0.5, 1.5)  # that of the medians would be 3 / 4 too
    assert ratio([1.0, 10.0, 3.0], [2.0, 10.0, 12.0]) == Spread(0.5, 0.25, 1.0)  # of the medians: 0.3


def test_verdicts():
    found = made_up()
    assert faster(found["step"]["float32"]) == "diffusers, channels-last"
    measured = {(claim, bound): value.median for claim, bound, value, _ in verdicts(found)}
    plain = "float32: an edit's step over diffusers' faster plain one, where other forms of products are used"
    assert measured[plain, 0.88] == pytest.approx(0.9)
    assert measured["bfloat16: an edit's step over the reference layout's", 0.35] == pytest.approx(0.3)
    memory = "bfloat16: its memory above the weights over the reference layout's"
    assert measured[memory, 0.1] == pytest.approx(0.05)
    assert measured["ten edits of a recorded source over ten separate ones", 0.58] == pytest.approx(0.55)
    assert measured["the included model's step over onnxruntime's, for the same graph", 1.3] == pytest.approx(1.2)
    assert measured["the included model's step, compiled by PyTorch, over onnxruntime's", 1.3] == pytest.approx(1.1)
    assert measured["`p2p --help`, in seconds", 0.4] == pytest.approx(0.15)
    assert measured["`p2p edit`, in seconds", 1.5] == pytest.approx(2.5)


def test_a_claim_about_other_forms_needs_some():
    """Pieces of feed-forward layers, which every CPU has, are none."""
    found = made_up()
    form = {"usual": [1.0], "other": [2.0]}
    found["forms"]["float32"] = {"linear": form | {"used": False}, "feed-forward": form | {"used": True}}
    claims = [claim for claim, *_ in verdicts(found) if "where other forms" in claim]
    assert len(claims) == 1 and claims[0].startswith("bfloat16: ")


def test_the_least_time_is_that_of_the_layers_at_the_machines_rates():
    """5.1e11 operations at 5e11 a second, which convolutions reach: 1.02 s, beside medians of 3, 9 and 0.03 s; ten
    edits and memory have none."""
    found = made_up()
    assert at_the_machines_rates(found["roofline"]["float32"]) == pytest.approx(1.02)
    found_least = [least and round(least, 3) for *_, least in verdicts(found)]
    # an edit: 30 steps of 1.02 s, and 0.9 s of importing
    assert found_least == [0.34, 0.34, 0.113, None] * 2 + [None, 34.0, 34.0, None, 31.5]


def test_the_report_tells_what_was_measured(tmp_path):
    files = report.write(tmp_path / "speed.md", made_up())
    assert [file.name for file in files] == ["speed.json", "speed.md", "speed.png"] and all(map(Path.exists, files))
    assert json.loads(files[0].read_text()) == made_up()
    page = files[1].read_text()
    assert "A processor, 2 cores" in page and "Left out" not in page
    assert "faster plain one, anywhere | 0.97 | 0.90 (0.90 to 0.90) | yes | 0.34 |" in page
    assert "where other forms of products are used | 0.88 | 0.90 (0.90 to 0.90) | no | 0.34 |" in page
    assert "| ours | inside | 2.7 s (1.8 to 3.6) | 0.90 (0.90 to 0.90) | 0.20 GB | 1e-07 |" in page
    assert (
        "| attention, 64x64 positions | 300 ms (200 to 400) | 200 ms (100 to 300) | 0.62 (0.50 to 0.75) | yes |" in page
    )
    assert "| convolutions | 50% | 400 | 400 | 80% |" in page and "| the rest | 12% |  |  |  |" in page
    assert "| *latents of one position* | 25% |  |  |  |" in page
    assert "| `p2p edit` | 2.5 s (2.0 to 3.0) |" in page and "| `p2p --help`, in seconds | 0.4 | 0.15" in page


def test_what_was_not_measured_is_told(tmp_path):
    _, page, _ = report.write(tmp_path / "speed.md", made_up(bfloat16=False, graph=False))
    text = page.read_text()
    assert "Left out: bfloat16, since this processor has none." in text
    assert "Left out: onnxruntime, since it is not installed." in text
    assert text.count("| not measured |") == 6  # four of bfloat16, and two over the graph
    assert "### bfloat16" not in text


# ---------------------------------------------------------------------------------------------------------------------
# the program


def program(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "p2p.speed.run", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120)


def test_help():
    done = program("--help")
    assert done.returncode == 0 and all(option in done.stdout for option in ("--quick", "--gpu", "--output"))


def test_a_contestant_that_ends_between_its_turns_ends_the_contest():
    with started(replace(INCLUDED, name="ours")) as process:
        process.answer()
        process.process.kill()
        process.process.wait()
        with pytest.raises(ValueError, match="ours ended with code -9, without a result"):
            process.ask(calls=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there(tmp_path):
    done = program("--gpu", "--output", str(tmp_path / "speed.md"))
    assert (done.returncode, done.stderr) == (
        1,
        "run: error: --gpu needs a CUDA device and a build of PyTorch for it, and there is none here\n",
    )
    assert not list(tmp_path.iterdir())


def test_a_contestant_that_fails_ends_the_contest(capfd):
    with pytest.raises(ValueError, match="ours ended with code 1, without a result"):
        measured(Setting("ours", "sd15", side=16, weights="/nowhere/weights.safetensors"))
    assert "/nowhere/weights.safetensors" in capfd.readouterr().err  # the reason


def test_programs_are_run_from_start_to_end(monkeypatch):
    """Those of the page, in turns, and the first of each is not counted."""
    run_so_far, original = [], programs.seconds_of

    def seconds_of(command):
        run_so_far.append(command)
        return float(len(run_so_far))

    monkeypatch.setattr(programs, "seconds_of", seconds_of)
    found = programs.measure(INCLUDED)
    assert found == {name: [4.0 + i + 3 * k for k in range(5)] for i, name in enumerate(found)}
    assert list(found) == ["import torch", "p2p --help", "p2p edit"]
    assert run_so_far[2][:3] == ("-m", "p2p", "edit") and run_so_far[2][-4:-1] == ("--steps", "30", "-o")
    assert original(("-c", "import time; time.sleep(0.01)")) > 0.01
    with pytest.raises(ValueError, match=r"(?s)-c 1 / 0 ended with code 1: .*ZeroDivisionError"):
        original(("-c", "1 / 0"))


@pytest.mark.skipif(not FORGET.exists(), reason="only Linux tells the peak of memory")
def test_the_peak_of_memory_is_that_of_what_follows():
    memory = Memory("cpu")
    torch.ones(2**26)  # 256 MB, loaded and dropped
    memory.forget_peak()
    before = memory.peak()
    assert before - memory.resident() < 2**26
    torch.ones(2**25)
    assert memory.peak() - before > 2**26


def test_the_gpu_that_is_asked_is_the_one_that_computes(monkeypatch):
    asked = []
    for name in ("synchronize", "memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: asked.append((name, device)))
    memory = Memory("cuda:1")
    finish("cuda:1"), memory.resident(), memory.forget_peak(), memory.peak()
    assert len(asked) == 4 and {device for _, device in asked} == {"cuda:1"}


def test_memory_that_is_not_told_is_none(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "Name:\tpython\n")
    assert Memory("cpu").resident() is None and Memory("cpu").peak() is None


def test_precisions_follow_the_processor(monkeypatch):
    for flags, left_out in (("fpu avx512_bf16", False), ("fpu amx_bf16", False), ("fpu avx2", True)):
        monkeypatch.setattr(Path, "read_text", lambda self, flags=flags, **_: f"flags\t: {flags}\n")
        monkeypatch.setattr(Path, "exists", lambda self: True)
        assert (run.bfloat16_left_out(gpu=False) is not None) == left_out


def test_what_needs_more_is_left_out_where_it_cannot_run(monkeypatch):
    """Its names are contestants of the included model's step, and of that only."""
    assert GRAPH.keys() == {"onnxruntime"} and COMPILED.keys() == {"ours, compiled"}
    assert not (GRAPH | COMPILED).keys() & STEP.keys()
    seen = []
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    monkeypatch.setenv("CXX", "no-compiler")
    monkeypatch.setattr(run, "contest", lambda contestants, *_: seen.append(set(contestants)) or {})
    monkeypatch.setattr(run, "measured", lambda setting: {})
    monkeypatch.setattr(run, "draw_weights", lambda *_: None)
    found = run.measure(run.QUICK, gpu=False)
    assert found["left out"]["onnxruntime"] == "it is not installed"
    assert found["left out"]["ours, compiled"] == "it needs a C++ compiler, and no-compiler is not installed"
    assert not any((GRAPH | COMPILED).keys() & names for names in seen) and len(seen) >= 3
    monkeypatch.setenv("CXX", sys.executable)  # any program
    monkeypatch.setattr(run.sysconfig, "get_path", lambda name: "/nowhere")
    assert run.compiled_left_out(gpu=False) == "it needs Python's header files, and there is no /nowhere/Python.h"
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert run.compiled_left_out(gpu=False) is None and run.compiled_left_out(gpu=True) == "it needs Triton"
