"""`p2p generate` and `p2p edit`: the pictures they write, and what options do to them."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.command_line import CAT, DOG, image


@pytest.mark.machine
def test_generate_writes_a_picture_that_the_seed_reproduces(p2p, capsys):
    p2p("generate", CAT, "--seed", "7", "--steps", "2", "-o", "a.png")
    assert capsys.readouterr().out == "a.png\n"
    p2p("generate", CAT, "--seed", "7", "--steps", "2", "-o", "b.png")
    p2p("generate", CAT, "--seed", "8", "--steps", "2", "-o", "c.png")
    assert image("a.png").shape == (32, 32, 3)
    assert (image("a.png") == image("b.png")).all()
    assert (image("a.png") != image("c.png")).any()


@pytest.mark.machine
def test_edit_writes_the_source_and_its_targets_side_by_side(p2p):
    p2p("edit", CAT, CAT, DOG, "--tau", "0", "--self-until", "0", "--steps", "2", "-o", "e.png")
    row = image("e.png")
    assert row.shape == (32, 96, 3)
    source, same, dog = np.split(row, 3, axis=1)
    assert (source == same).all() and (source != dog).any()


def test_a_tau_of_never_is_the_fixed_seed_baseline(p2p):
    p2p("edit", CAT, DOG, "--tau", "never", "--self-until", "never", "--steps", "2", "--seed", "7", "-o", "e.png")
    p2p("generate", DOG, "--steps", "2", "--seed", "7", "-o", "g.png")
    difference = image("e.png")[:, 32:].astype(int) - image("g.png")
    assert abs(difference).max() <= 1  # batches of other sizes round otherwise, by at most one grey level


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "shared words keep the source's attention; swap 'cat' for 'dog'"),
        (("--refine",), "shared words keep the source's attention"),
        (("--swap", "cat=dog", "--reweight", "grass=2"), "swap 'cat' for 'dog'; weigh 'grass' by 2"),
        (("--preserve", "grass", "--alpha", "grass=0.5"), "preserve 'grass'"),
        (
            ("--blend", "dog,cat,-grass"),
            "shared words keep the source's attention; swap 'cat' for 'dog'",
        ),
    ],
)
def test_an_edit_says_what_it_does(p2p, capsys, options, said):
    p2p("edit", CAT, DOG, *options, "--steps", "2", "-o", "e.png")
    assert f"{DOG}: {said}\n" in capsys.readouterr().err
    assert image("e.png").shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (
            DOG,
            (),
            "  by default for another object, tau 0.5, self-until 0.8: source's cross-attention in 6 of 10 steps, "
            "self-attention in 3\n",
        ),
        (
            f"{CAT} in fog",
            (),
            "  by default, tau 0.2, self-until 0.6: source's cross-attention in 9 of 10 steps ('in fog' in none), "
            "self-attention in 5\n",
        ),
        (
            DOG,
            ("--tau", "0.2"),
            "  by default for another object, self-until 0.8: source's cross-attention in 9 of 10 steps, "
            "self-attention in 3\n",
        ),
        (
            f"{DOG} in fog",
            ("--tau", "0.5", "--self-until", "0.6"),
            "  source's cross-attention in 6 of 10 steps ('in fog' in none), self-attention in 5\n",
        ),
        (CAT, (), "nothing changes: both prompts have the same tokens, and no word is reweighted"),
        (CAT, ("--reweight", "cat=2"), "  by default, tau 0.2, self-until 0.6: source's cross-attention in 9 of 10"),
    ],
)
def test_an_edit_says_in_how_many_steps_it_uses_the_source(p2p, capsys, target, options, said):
    p2p("edit", CAT, target, *options, "--steps", "10", "-o", "e.png")
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("a photo of a big cat", "a photo of a dog <|endoftext|>", "swap 'cat' for 'dog'"),
        ("a photo of a cat ^_^", "a photo of a big dog", "swap 'cat' for 'dog'"),
        ("a cat", "a man 's dog :3", "swap 'cat' for 'man'"),
    ],
)
def test_what_is_no_word_is_neither_swapped_nor_fatal(p2p, capsys, source, target, said):
    """A special token typed in a prompt, emoticons, an apostrophe by itself."""
    p2p("edit", source, target, "--steps", "2", "-o", "e.png")
    assert f"{target}: shared words keep the source's attention; {said}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ("--reweight", "grass=50"),
        ("--tau", "never", "--reweight", "grass=50"),
        ("--blend", "dog", "--reweight", "grass=50"),
    ],
)
def test_options_change_the_target_and_not_the_source(p2p, options):
    """A weight far out of proportion, since the random model hardly tells words apart."""
    common = ("edit", CAT, DOG, "--steps", "4", "--self-until", "never")
    p2p(*common, "-o", "plain.png")
    p2p(*common, *options, "-o", "edited.png")
    plain, edited = image("plain.png").astype(int), image("edited.png").astype(int)
    assert abs(plain - edited)[:, :32].max() <= 1  # the blend's run builds maps, which round otherwise
    assert abs(plain - edited)[:, 32:].max() > 5


def test_upscaled_images_are_the_same_images_larger_and_replay(p2p):
    p2p("edit", CAT, DOG, "--steps", "2", "-o", "e.png")
    p2p("edit", CAT, DOG, "--steps", "2", "--upscale", "3", "-o", "large.png")
    p2p("replay", "large.png", "-o", "again.png")
    p2p("replay", "e.png", "--upscale", "1", "-o", "one.png")
    assert image("large.png").shape == (96, 192, 3)
    # the middle of each block of 3 x 3 lies where its pixel does, and a bicubic curve goes through its points
    large = image("large.png")
    assert (large[1::3, 1::3] == image("e.png")).all()
    assert (large[::3] != large[1::3]).any()  # smooth: blocks are not of one colour
    for name in ("again.png", "one.png"):
        assert (image(name) == image("e.png")).all() and Image.open(name).text == Image.open("e.png").text
    p2p("generate", CAT, "--steps", "1", "--upscale", "2", "-o", "g.png")
    assert image("g.png").shape == (64, 64, 3)


@pytest.fixture
def figures(monkeypatch):
    """Figures as they are drawn, which are not rendered."""
    drawn = []
    monkeypatch.setattr("p2p.figures.sheets.as_image", lambda figure: drawn.append(figure) or Image.new("RGB", (1, 1)))
    return drawn


def images(figure) -> list[tuple[str, np.ndarray]]:
    """The images of the model in a figure, with their captions."""
    shown = [(axis.get_title(), np.asarray(axis.images[0].get_array())) for axis in figure.axes if axis.images]
    return [(caption, image) for caption, image in shown if image.shape == (32, 32, 3)]


def test_a_grid_of_seeds_holds_the_images_of_each_seed(p2p, figures):
    for seed in ("5", "6"):
        p2p("edit", CAT, DOG, "--seed", seed, "--steps", "2", "-o", f"{seed}.png")
        p2p("generate", CAT, "--seed", seed, "--steps", "2", "-o", f"g{seed}.png")
    p2p("edit", CAT, DOG, "--seed", "5", "--seeds", "2", "--steps", "2", "-o", "grid.png")
    p2p("generate", CAT, "--seed", "5", "--seeds", "2", "--steps", "2", "-o", "grid2.png")
    edits, generated = figures
    found = [image for _, image in images(edits)]
    assert (np.concatenate(found[:2], axis=1) == image("5.png")).all()
    assert (np.concatenate(found[2:], axis=1) == image("6.png")).all()
    assert [text.get_text() for text in edits.texts] == ["seed 5", "seed 6"]
    assert [caption for caption, _ in images(generated)] == ["seed 5", "seed 6"]
    assert all((one == image(name)).all() for (_, one), name in zip(images(generated), ("g5.png", "g6.png")))


@pytest.mark.parametrize("region", [(), ("--blend", "grass")])
def test_compare_shows_source_same_seed_and_edit_for_each_target(p2p, figures, region):
    targets = (DOG, "a photo of a bicycle on the grass")
    p2p("edit", CAT, *targets, *region, "--seed", "5", "--steps", "2", "--tau", "0.3", "-o", "plain.png")
    p2p("edit", CAT, *targets, *region, "--seed", "5", "--steps", "2", "--tau", "0.3", "--compare", "-o", "c.png")
    (figure,) = figures
    shown = images(figure)
    roles = ["source", "same seed, new prompt", "Prompt-to-Prompt edit"] * 2
    assert [caption.split("\n")[0] for caption, _ in shown] == roles
    prompts = [" ".join(caption.split("\n")[1:]) for caption, _ in shown]
    assert prompts == [CAT, DOG, DOG, CAT, targets[1], targets[1]]
    source, dog, bicycle = np.split(image("plain.png").astype(int), 3, axis=1)
    for (_, found), expected in zip([shown[0], shown[2], shown[3], shown[5]], (source, dog, source, bicycle)):
        assert abs(found - expected).max() <= 1  # maps are built, which rounds otherwise
    for (_, found), prompt in zip([shown[1], shown[4]], targets):
        p2p("generate", prompt, "--seed", "5", "--steps", "2", "-o", "g.png")
        assert abs(found - image("g.png").astype(int)).max() <= 1
    words = [axis.get_title() for axis in figure.axes if "%" in axis.get_title()]
    assert words[0].startswith("a#1\n") and len(words) == 6 * 9
    assert sum(float(word.split("\n")[1].removesuffix("%")) for word in words[:9]) == pytest.approx(100, abs=2)


def test_a_saved_call_is_compared_and_sown_again(p2p, figures):
    p2p("edit", CAT, DOG, "--steps", "2", "--save", "s.json", "-o", "e.png")
    p2p("replay", "s.json", "--compare", "--scale", "shared", "-o", "c.png")
    p2p("replay", "c.png", "-o", "again.png")
    assert (image("again.png") == image("e.png")).all()
    p2p("replay", "s.json", "--seeds", "2", "-o", "g.png")
    assert [len(images(figure)) for figure in figures] == [3, 4]


def test_maps_and_latents_are_written_as_arrays(p2p, tiny):
    p2p("edit", CAT, DOG, "--steps", "3", "--save-maps", "m.npz", "-o", "e.png")
    with np.load("m.npz", allow_pickle=False) as arrays:
        found = dict(arrays)
    assert found["prompts"].tolist() == [CAT, DOG]
    assert found["latents"].shape == (3, 2, 4, 16, 16)
    decoded = tiny.decode(torch.from_numpy(found["latents"][-1]))
    assert (np.concatenate(list(decoded), axis=1) == image("e.png")).all()
    *alone, _ = (state.z_t for state in tiny.denoise(tiny.encode_prompts([CAT]), [0], steps=3))
    # of a batch of one, which rounds otherwise, in float32
    torch.testing.assert_close(torch.from_numpy(found["latents"][:2, :1]), torch.stack(alone), rtol=1e-4, atol=1e-4)
    assert found["map_times"].tolist() == [1000, 667, 333] and found["latent_times"].tolist() == [667, 333, 0]
    for row, noun in enumerate(("cat", "dog")):
        words = ["a#1", "photo", "of", "a#2", noun, "on", "the", "grass", "BOS EOS PAD"]
        assert found[f"words_{row}"].tolist() == words
        assert found[f"maps_{row}"].shape == (3, 9, 16, 16)
        np.testing.assert_allclose(found[f"maps_{row}"].sum(axis=1), 1, atol=1e-5)  # float32, of 32 numbers


def test_the_arrays_of_an_image_are_its_maps(p2p):
    p2p("attention", CAT, "--steps", "2", "--by", "step", "--save-maps", "m.npz", "-o", "m.png")
    with np.load("m.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["latent_times", "latents", "map_times", "maps_0", "prompts", "words_0"]
        assert arrays["maps_0"].shape == (2, 9, 16, 16) and arrays["latents"].shape == (2, 1, 4, 16, 16)


def test_the_steps_as_an_animation(p2p):
    p2p("edit", CAT, DOG, "--steps", "3", "--gif", "e.gif", "-o", "e.png")
    with Image.open("e.gif") as animation:
        assert animation.n_frames == 3


def test_ddpm_and_eta_run(p2p):
    p2p("generate", CAT, "--sampler", "ddpm", "--steps", "2", "-o", "a.png")
    p2p("generate", CAT, "--eta", "1", "--steps", "2", "-o", "b.png")
    # [D17] eta = 1 is ancestral sampling; rounding of another order of operations
    assert abs(image("a.png").astype(int) - image("b.png")).max() <= 1


@pytest.mark.parametrize(("sampler", "calls"), [("ddpm", 3), ("plms", 4), ("dpm++", 3), ("euler", 3)])
def test_every_sampler_runs_and_its_network_calls_are_counted(p2p, capsys, sampler, calls):
    p2p("generate", CAT, "--sampler", sampler, "--steps", "3", "-o", "a.png")
    assert f" {calls}/{calls} " in capsys.readouterr().err
    p2p("generate", CAT, "--steps", "3", "-o", "b.png")
    # euler is ddim, and ends where the small model's ddim does
    assert (image("a.png") == image("b.png")).all() == (sampler == "euler")
