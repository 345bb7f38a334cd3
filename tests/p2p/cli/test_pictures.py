"""`p2p generate` and `p2p edit`: the pictures they write, and what options do to them."""

import numpy as np
import pytest
from PIL import Image

from cli.conftest import CAT, DOG, picture


def test_generate_writes_a_picture_that_the_seed_reproduces(p2p, capsys):
    p2p("generate", CAT, "--seed", "7", "--steps", "2", "-o", "a.png")
    assert capsys.readouterr().out == "a.png\n"
    p2p("generate", CAT, "--seed", "7", "--steps", "2", "-o", "b.png")
    p2p("generate", CAT, "--seed", "8", "--steps", "2", "-o", "c.png")
    assert picture("a.png").shape == (32, 32, 3)
    assert (picture("a.png") == picture("b.png")).all()
    assert (picture("a.png") != picture("c.png")).any()


def test_edit_writes_the_source_and_its_targets_side_by_side(p2p):
    p2p("edit", CAT, CAT, DOG, "--tau", "0", "--self-until", "0", "--steps", "2", "-o", "e.png")
    row = picture("e.png")
    assert row.shape == (32, 96, 3)
    source, same, dog = np.split(row, 3, axis=1)
    assert (source == same).all() and (source != dog).any()


def test_tau_of_all_of_T_is_the_fixed_seed_baseline(p2p):
    p2p("edit", CAT, DOG, "--tau", "1.0", "--self-until", "1.0", "--steps", "2", "--seed", "7", "-o", "e.png")
    p2p("generate", DOG, "--steps", "2", "--seed", "7", "-o", "g.png")
    difference = picture("e.png")[:, 32:].astype(int) - picture("g.png")
    assert abs(difference).max() <= 1  # batches of other sizes round otherwise, by at most one grey level


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "keep the words that both prompts have; swap 'cat' for 'dog'"),
        (("--refine",), "keep the words that both prompts have"),
        (("--swap", "cat=dog", "--reweight", "grass=2"), "swap 'cat' for 'dog'; weigh 'grass' by 2"),
        (("--preserve", "grass", "--alpha", "grass=0.5"), "preserve 'grass'"),
        (("--blend", "dog,cat,-grass"), "keep the words that both prompts have; swap 'cat' for 'dog'"),
    ],
)
def test_an_edit_says_what_it_does(p2p, capsys, options, said):
    p2p("edit", CAT, DOG, *options, "--steps", "2", "-o", "e.png")
    assert f"{DOG}: {said}\n" in capsys.readouterr().err
    assert picture("e.png").shape == (32, 64, 3)


@pytest.mark.parametrize(
    "options",
    [
        ("--reweight", "grass=50"),
        ("--tau", "1.0", "--reweight", "grass=50"),
        ("--blend", "dog", "--reweight", "grass=50"),
    ],
)
def test_options_change_the_target_and_not_the_source(p2p, options):
    """A weight far out of proportion, since the random model hardly tells words apart."""
    common = ("edit", CAT, DOG, "--steps", "4", "--self-until", "1.0")
    p2p(*common, "-o", "plain.png")
    p2p(*common, *options, "-o", "edited.png")
    plain, edited = picture("plain.png").astype(int), picture("edited.png").astype(int)
    assert abs(plain - edited)[:, :32].max() <= 1  # the blend's run builds maps, which round otherwise
    assert abs(plain - edited)[:, 32:].max() > 5


def test_the_steps_as_an_animation(p2p):
    p2p("edit", CAT, DOG, "--steps", "3", "--gif", "e.gif", "-o", "e.png")
    with Image.open("e.gif") as animation:
        assert animation.n_frames == 3


def test_ddpm_and_eta_run(p2p):
    p2p("generate", CAT, "--sampler", "ddpm", "--steps", "2", "-o", "a.png")
    p2p("generate", CAT, "--eta", "1", "--steps", "2", "-o", "b.png")
    # [D17] eta = 1 is ancestral sampling; rounding of another order of operations
    assert abs(picture("a.png").astype(int) - picture("b.png")).max() <= 1


@pytest.mark.parametrize(("sampler", "calls"), [("ddpm", 3), ("plms", 4), ("dpm++", 3), ("euler", 3)])
def test_every_sampler_runs_and_its_network_calls_are_counted(p2p, capsys, sampler, calls):
    p2p("generate", CAT, "--sampler", sampler, "--steps", "3", "-o", "a.png")
    assert f" {calls}/{calls} " in capsys.readouterr().err
    p2p("generate", CAT, "--steps", "3", "-o", "b.png")
    # euler is ddim, and ends where the small model's ddim does
    assert (picture("a.png") == picture("b.png")).all() == (sampler == "euler")
