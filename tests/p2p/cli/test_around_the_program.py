"""What goes wrong around the edit itself: files, machines and shells not as expected, and numbers too large."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from p2p import __version__
from p2p.__main__ import main
from p2p.cli.parser import parser
from tests.support.command_line import CAT, DOG

ROOT = Path(__file__).parents[3]


def test_figures_need_no_backend_no_home_and_no_terminal(tmp_path):
    """As a notebook leaves the environment, with the shipped model."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "nonsense", "HOME": "/proc/none"}
    env = {name: value for name, value in env.items() if name not in ("HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")}
    command = [sys.executable, "-m", "p2p", "attention", "a cat", "--steps", "1", "-o", "maps.png"]
    shell = ["bash", "-c", '"$@" 0<&- 2>&-', "-", *command]
    done = subprocess.run(shell, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "maps.png\n")
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width > 128  # a figure, not the image alone


@pytest.mark.parametrize(
    ("args", "setting"),
    [
        (("generate", CAT, "--guidance", "1e39"), r"lower the guidance \(1e\+39\)$"),
        (("attention", CAT, "--guidance=-1e39"), r"lower the guidance \(-1e\+39\)$"),
        (("edit", CAT, DOG, "--reweight", "dog=1e39"), r"guidance \(4\), or the weights \(weigh 'dog' by 1e\+39\)$"),
        (("sweep", "tau", CAT, DOG, "--reweight", "dog=1e39"), r"or the weights \(weigh 'dog' by 1e\+39\)$"),
    ],
)
def test_numbers_that_are_not_finite_name_the_step_and_setting(p2p, args, setting):
    with pytest.raises(SystemExit, match=r"^p2p: error: step 1 of 3, t = 1000, gives numbers .*float32: .*" + setting):
        p2p(*args, "--steps", "3", "-o", "x.png")
    assert not os.listdir()


def test_an_image_that_is_not_finite_is_an_error(tiny):
    z_0 = torch.full((1, *tiny.latent_shape), 3e38)  # near float32's largest
    with pytest.raises(FloatingPointError, match=r"not finite in float32: the latents .* reach 3e\+38"):
        tiny.decode(z_0)


LONG = "x" * 252


@pytest.mark.parametrize("folder", [".", "/proc"])
@pytest.mark.parametrize(
    ("command", "option", "ending"),
    [
        (("generate", CAT), "-o", ".png"),
        (("attention", CAT, "-o", "x.png"), "--save-maps", ".npz"),
        (("edit", CAT, DOG, "-o", "x.png"), "--save", ".json"),
        (("edit", CAT, DOG, "-o", "x.png"), "--gif", ".gif"),
        (("sweep", "tau", CAT, DOG, "-o", "x.png"), "--data", ".csv"),
    ],
)
def test_an_unwritable_file_is_refused_before_the_model_is_read(p2p, monkeypatch, command, option, ending, folder):
    monkeypatch.setattr("p2p.cli.run.load", lambda *_, **__: pytest.fail("work began"))
    name = f"{LONG}{ending}" if folder == "." else f"/proc/x{ending}"  # 256 bytes and more
    with pytest.raises(SystemExit, match=f"^p2p: error: could not write {name}: "):
        p2p(*command, option, name)
    assert not os.listdir()


def test_a_name_as_long_as_a_name_may_be_is_written(p2p):
    name = f"{LONG[:-1]}.png"
    p2p("generate", CAT, "--steps", "1", "-o", name)
    assert os.listdir() == [name]


def test_a_mask_is_not_overwritten(p2p):
    Image.new("L", (32, 32), 255).save("m.png")
    before = Path("m.png").read_bytes()
    with pytest.raises(SystemExit, match="would overwrite the mask"):
        p2p("edit", CAT, DOG, "--mask", "m.png", "-o", "m.png")
    os.link("m.png", "M.PNG")  # where a file system does not tell capitals apart, both are one file
    with pytest.raises(SystemExit, match="would overwrite the mask"):
        p2p("edit", CAT, DOG, "--mask", "m.png", "-o", "M.PNG")
    assert Path("m.png").read_bytes() == before


def test_a_picture_does_not_depend_on_its_name(p2p):
    for name in ("a.png", "b.png"):
        p2p("generate", CAT, "--steps", "1", "-o", name)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--self-side", "7"), r"--self-side 7 leaves no self-attention to inject, layers there have 16, 8 positions"),
        (("--self-side", "7", "--layers", "mid"), "layers there have 8 positions a side: .* --self-until never"),
    ],
)
def test_layers_that_the_model_has_none_of_are_refused(p2p, args, message):
    with pytest.raises(SystemExit, match=message):
        p2p("edit", CAT, DOG, *args, "-o", "x.png")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("edti x", "no 'edti': did you mean 'edit'?"),
        ("show maper a b -o x.png", "no 'maper': did you mean 'mapper'?"),
        ("download sd-turb", "no 'sd-turb': did you mean 'sd-turbo'?"),
        ("generate a photo of a cat -o x.png", 'goes in quotes: "a photo of a cat"; see `p2p generate --help`'),
        ("show mapper a cat a dog -o x.png", "prompts of several words go in quotes, each in its own"),
        ("compare a b --t1 0.6 -o x.png", "unrecognized arguments: --t1 0.6: did you mean '--t0'"),
        ("generate cat --sede 3 -o x.png", "unrecognized arguments: --sede 3: did you mean '--seed'"),
        ("edit cat dog --blend -grass -o x.png", "is joined to its option, as in --blend=-grass"),
        ("generate cat --guidance -1e5 -o x.png", "as in --guidance=-1e5"),
        ("edit cat dog --swap cat -o x.png", "'cat' is not WORD=OTHER: give cat=OTHER"),
        ("edit cat dog --reweight cat -o x.png", "'cat' is not WORD=C: give cat=C"),
        ("edit cat dog --alpha =0.5 -o x.png", "'=0.5' is not WORD=[START:]END: give WORD=0.5"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_fix(capsys, monkeypatch, line, message):
    monkeypatch.setattr(sys, "argv", ["p2p", *line.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1


def test_prompts_without_quotes_are_not_taken_for_many_targets(p2p):
    with pytest.raises(SystemExit, match="'a' is no prompt by itself: put each prompt of several words in quotes"):
        p2p("edit", "a", "cat", "a", "dog", "-o", "x.png")


def test_a_region_without_words_of_its_own_is_told_the_fix(p2p):
    with pytest.raises(SystemExit, match=r"--blend WORD,-grass$"):
        p2p("edit", CAT, DOG, "--blend=-grass", "-o", "x.png")


def test_the_version_is_printed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["p2p", "--version"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0 and capsys.readouterr().out == f"p2p {__version__}\n"


def parsers(found: argparse.ArgumentParser):
    """A parser, and those of its subcommands."""
    yield found
    for action in found._actions:
        if isinstance(action.choices, dict) and action.dest in ("command", "figure"):
            for inner in action.choices.values():
                yield from parsers(inner)


def test_every_command_has_help():
    helps = [found.format_help() for found in parsers(parser())]
    assert len(helps) == 1 + 13 + 5 and all(text.startswith("usage: p2p") for text in helps)


def test_help_states_the_default_of_every_option_with_one():
    given = lambda action: not any(action.default is x for x in (None, False, argparse.SUPPRESS))
    options = [(found.prog, action) for found in parsers(parser()) for action in found._actions]
    seen = [(prog, action) for prog, action in options if action.option_strings and given(action)]
    assert {action.dest for _, action in seen} >= {"seed", "guidance", "device", "eta", "layers"}
    assert not [(prog, action.dest) for prog, action in seen if action.default != [] and "default" not in action.help]
