"""`p2p vocabulary` lists the words of a model, and every command that reads prompts names those it does not know."""

import logging
import sys
from pathlib import Path

import pytest

from p2p.__main__ import main
from tests.support.command_line import CAT
from tests.support.model_files import save_model
from weights.load import load_vocabulary
from weights.training.world import COLOURS, NOUNS, PLACES, VOCABULARY

pytestmark = pytest.mark.usefixtures("two_draws")

ZEBRA = "a photo of a zebra on the moon"
COMMANDS = {
    "generate": ("generate", ZEBRA),
    "edit": ("edit", CAT, ZEBRA),
    "attention": ("attention", ZEBRA),
    "sweep tau": ("sweep", "tau", ZEBRA, CAT),
    "sweep word": ("sweep", "word", ZEBRA, ZEBRA, "--word", "zebra"),
    "show mapper": ("show", "mapper", ZEBRA, CAT),
}


@pytest.fixture(scope="module")
def listed(tiny, tmp_path_factory) -> str:
    """The random model as files, with a list of words."""
    folder = save_model(tiny, tmp_path_factory.mktemp("listed"))
    (folder / "words.json").write_text(VOCABULARY.to_json(), encoding="utf-8")
    return str(folder)


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_unknown_words_are_named_once(p2p, listed, caplog, command):
    p2p(*command, "--steps", "2", "-o", "x.png", model=listed)
    (warning,) = warnings_of(caplog)
    assert "'zebra', 'moon':" in warning


def test_replay_names_unknown_words(p2p, listed, caplog):
    p2p("edit", CAT, ZEBRA, "--steps", "2", "-o", "x.png", model=listed)
    caplog.clear()
    p2p("replay", "x.png", "-o", "y.png", model=listed)
    (warning,) = warnings_of(caplog)
    assert "'zebra', 'moon':" in warning


def test_a_model_without_a_list_warns_of_nothing(p2p, caplog):
    p2p("generate", ZEBRA, "--steps", "2", "-o", "x.png")
    assert warnings_of(caplog) == []


def test_vocabulary_prints_all_words_and_the_grammar(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["p2p", "vocabulary"])
    main()
    printed = " ".join(capsys.readouterr().out.split())
    assert all(", ".join(words) in printed for words in (NOUNS, COLOURS, PLACES))
    assert "a STYLE of a [SIZE]" in printed


@pytest.mark.parametrize("model", ["sd15", None], ids=["by name", "a folder"])
def test_vocabulary_of_a_model_without_a_list(p2p, folder, model):
    """The fixture blocks the network: nothing is downloaded to find out."""
    with pytest.raises(SystemExit, match="has no list of the words it was trained on"):
        p2p("vocabulary", model=model or str(folder))


def test_the_shipped_list_is_the_worlds():
    assert load_vocabulary("stickers") == VOCABULARY


@pytest.mark.parametrize("text", ["", "[]", '{"grammar": "a NOUN"}', '{"grammar": "a", "kinds": {"nouns": [1]}}'])
def test_a_damaged_list_is_refused_by_its_name(listed, tmp_path, text):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).symlink_to(Path(listed) / name)
    (tmp_path / "words.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"words\.json: "):
        load_vocabulary(tmp_path)
