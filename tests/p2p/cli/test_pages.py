"""The command lines of README, docs and help, by copy and paste."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from p2p.__main__ import main
from p2p.cli import options
from p2p.cli.parser import DESCRIPTION, parsed

ROOT = Path(__file__).parents[3]


def lines(text: str) -> list[list[str]]:
    """The arguments of each command line of p2p in a text, without comments."""
    found = re.findall(r"^(?:  |\.venv/bin/)p2p (.*)$", text.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


GUIDES = ("editing", "restoration", "real-images", "formulas", "public-weights")
PAGES = ("README.md", *(f"docs/{name}.md" for name in GUIDES))
OF_PAGES = {page: lines((ROOT / page).read_text(encoding="utf-8")) for page in PAGES} | {"help": lines(DESCRIPTION)}
SHORT = [
    line for line in OF_PAGES["README.md"] if line[0] in ("generate", "edit", "attention") and "--model" not in line
]


@pytest.mark.parametrize("page", OF_PAGES)
def test_every_command_line_of_a_page_is_accepted(page):
    assert OF_PAGES[page]
    for line in OF_PAGES[page]:
        assert parsed(line).command == line[0]


@pytest.mark.parametrize("line", SHORT, ids=lambda line: line[-1])
def test_the_readmes_command_lines_run(line, monkeypatch, tmp_path, capsys):
    """With the included model, in two steps."""
    monkeypatch.chdir(tmp_path)
    if "--image" in line:  # which an earlier line makes
        Image.new("RGB", (128, 128), "red").save(line[line.index("--image") + 1])
    monkeypatch.setattr(sys, "argv", ["p2p", *line, "--steps", "2"])
    main()
    given = parsed(line)
    assert capsys.readouterr().out == f"{given.output}\n"
    with Image.open(given.output) as image:
        assert image.height == 128 or not isinstance(given, options.Generate)
