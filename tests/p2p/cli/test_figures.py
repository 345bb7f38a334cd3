"""`p2p attention`, `p2p show` and `p2p sweep`: figures, and which options each of them takes."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from p2p.alpha import Alpha
from p2p.cli import commands
from p2p.cli.parser import parsed
from p2p.figures import edit_matrices
from tests.support.command_line import CAT, DOG, image

pytestmark = pytest.mark.usefixtures("two_draws")


def test_attention_draws_a_map_per_word(p2p):
    p2p("attention", CAT, "--steps", "1", "-o", "m.png")
    height, width, _ = image("m.png").shape
    assert width > 300 and height > 300


@pytest.mark.parametrize(
    ("by", "titles"),
    [
        ("word", ["a photo of a cat", "a#1", "photo", "of", "a#2", "cat", "on", "the", "grass", "BOS EOS PAD"]),
        ("step", ["a photo of a cat on the\ngrass", "t = 1000", "t = 500"]),
        (
            "layer",
            ["a photo of a cat on the\ngrass", "down\n16×16", "down\n8×8", "mid\n8×8", "up\n8×8", "up\n16×16"],
        ),
        ("component", ["the image", "components 1, 2, 3\nas red, green, blue", *["component"] * 3]),
    ],
)
def test_attention_shows_what_it_is_asked_for(p2p, monkeypatch, by, titles):
    drawn = []
    monkeypatch.setattr("p2p.figures.sheets.as_image", lambda figure: drawn.append(figure) or Image.new("L", (1, 1)))
    p2p("attention", CAT, "--by", by, "--steps", "2", "-o", "m.png")
    found = [axis.get_title() for axis in drawn[0].axes if axis.get_title()]
    assert len(found) == len(titles) and all(f.startswith(title) for f, title in zip(found, titles))
    assert json.loads(Image.open("m.png").text["p2p"])["by"] == by


def test_a_model_without_layers_of_16_uses_its_nearest(p2p, folder, tmp_path_factory):
    """Latents of 24 positions a side, whose layers have 24 and 12, and at once: nothing is refused after a step."""
    larger = tmp_path_factory.mktemp("larger") / "model"
    shutil.copytree(folder, larger)
    config = json.loads((larger / "config.json").read_text()) | {"image_size": 48}
    (larger / "config.json").write_text(json.dumps(config))
    p2p("attention", CAT, "--steps", "1", "-o", "m.png", model=str(larger))
    assert min(image("m.png").shape[:2]) > 300
    p2p("edit", CAT, DOG, "--blend", "dog", "--steps", "2", "--save", "s.json", "-o", "e.png", model=str(larger))
    saved = json.loads(Path("s.json").read_text())
    assert saved["self_injection"]["layers"]["side"] == 12 and "side" not in saved["blend"]
    p2p("replay", "s.json", "-o", "again.png", model=str(larger))
    assert image("e.png").shape == (48, 96, 3) and (image("e.png") == image("again.png")).all()


@pytest.mark.parametrize(
    "args",
    [
        ("show", "mapper", CAT, DOG, "--reweight", "grass=2"),
        ("show", "schedule", CAT, DOG, "--alpha", "dog=1.0:0.5"),
        ("sweep", "window", CAT, DOG, "--data", "f.json"),
        ("sweep", "word", CAT, DOG, "--word", "grass"),
    ],
)
def test_figures_are_drawn(p2p, args):
    p2p(*args, "--steps", "2", "-o", "f.png")
    assert min(image("f.png").shape[:2]) > 200
    assert json.loads(Image.open("f.png").text["p2p"])["source"] == CAT
    if "--data" in args:
        assert len(json.loads(Path("f.json").read_text(encoding="utf-8"))) == 1 + 11  # the source and the windows


def test_a_sweep_writes_its_numbers(p2p):
    p2p("sweep", "tau", CAT, DOG, "--seed", "3", "--seeds", "2", "--steps", "1", "--data", "f.csv", "-o", "f.png")
    header, *rows = Path("f.csv").read_text(encoding="utf-8").splitlines()
    assert header.split(",")[:4] == ["source", "target", "seed", "setting"]
    assert [row.split(",")[2] for row in rows] == ["3"] * 7 + ["4"] * 7  # the source and six taus of each
    assert "data" not in json.loads(Image.open("f.png").text["p2p"])


CLAIMS, WEIGHTS, TIMES = ("--refine", "--swap", "--preserve"), ("--reweight", "--renormalise"), ("--tau", "--alpha")
SAMPLED = ("--seed", "--guidance", "--eta")
USED = {
    "show mapper": (*CLAIMS, *WEIGHTS, *TIMES),
    "show schedule": (*CLAIMS, *TIMES, "--self-until"),
    "sweep tau": (*CLAIMS, *WEIGHTS, *SAMPLED),
    "sweep window": (*CLAIMS, *WEIGHTS, *SAMPLED),
    "sweep word": (*TIMES, *SAMPLED),
}
VALUES = {
    "--tau": "0.4",
    "--alpha": "dog=0.4",
    "--swap": "cat=dog",
    "--preserve": "grass",
    "--reweight": "grass=2",
    "--self-until": "0.2",
    "--self-side": "8",
    "--layers": "up",
    "--blend": "dog",
    "--mask": "mask.png",
    "--blend-from": "0.5",
    "--seed": "1",
    "--guidance": "2",
    "--eta": "0.5",
    "--steps": "8",
}
FLAGS = ("--refine", "--renormalise")


@pytest.fixture
def drawn(tiny, monkeypatch):
    """What a figure would be drawn from, as text; nothing is sampled or drawn."""
    seen = []

    def matrices(source, target, M, at):
        return M.tolist(), {t: (P.tolist(), Q.tolist(), renormalise) for t, (P, Q, renormalise) in at.items()}

    def sweep(model, source, target, edit, taus, seeds, **how):
        return edit(Alpha(0.5)), seeds, how

    monkeypatch.setattr("p2p.figures.edit_matrices.timeline", lambda *args: edit_matrices.shares(*args)[1].tolist())
    monkeypatch.setattr("p2p.figures.edit_matrices.matrices", matrices)
    monkeypatch.setattr("p2p.experiments.sweeps.sweep", sweep)
    monkeypatch.setattr("p2p.experiments.sweeps.preserve", lambda model, *args, **how: (args, how))
    for name in ("tau_sweep", "window_sweep", "preservation"):
        monkeypatch.setattr(f"p2p.figures.sweep_plots.{name}", lambda found: found)
    monkeypatch.setattr("p2p.figures.sheets.as_image", lambda found: seen.append(repr(found)) or Image.new("L", (1, 1)))

    def call(figure: str, *options: str) -> str:
        prompts = ("a photo of a red cat on the grass", "a photo of a blue dog on the grass")
        word = ("--word", "grass") if figure == "sweep word" else ()
        given = parsed([*figure.split(), *prompts, *word, "--steps", "10", *options, "-o", "x.png"])
        commands.FIGURES[type(given)](tiny, given)
        return seen.pop()

    return call


@pytest.mark.parametrize("figure", USED)
def test_a_figure_uses_its_options_and_refuses_the_others(drawn, figure, capsys):
    plain = drawn(figure)
    assert drawn(figure) == plain
    for option in (*FLAGS, *VALUES):
        words = (option,) if option in FLAGS else (option, VALUES[option])
        if option in USED[figure] or option == "--steps":
            assert drawn(figure, *words) != plain, option
        else:
            with pytest.raises(SystemExit):
                drawn(figure, *words)
            assert f"unrecognized arguments: {option}" in capsys.readouterr().err


def test_a_preserved_word_has_the_time_it_is_given(drawn):
    """--preserve is meant for every step, so --tau is not its time; a sweep goes over all times, its too."""
    plain = drawn("show schedule", "--preserve", "grass")
    assert drawn("show schedule", "--preserve", "grass", "--alpha", "grass=0.5") != plain
    assert drawn("show schedule", "--refine", "--tau", "never", "--preserve", "grass") == plain
    assert "Preserve(word='grass', alpha=Alpha(tau=0.5, words={}), others=False)" in drawn(
        "sweep tau", "--preserve", "grass"
    )
