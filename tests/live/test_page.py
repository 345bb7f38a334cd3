"""What surrounds the page: the server that isolates it, and the commands that it writes."""

import json
import re
import shlex
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from p2p.cli import options
from p2p.cli.calls import call_of
from p2p.cli.keywords import from_keywords
from p2p.cli.parser import parsed
from p2p.live.serve import PORT, server
from weights.load import load

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"


def test_the_server_isolates_the_page_and_serves_its_folder_alone(tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "dist"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="run make site"):
        server(folder=folder)
    (folder / "index.html").write_text("page")
    (folder / "ort.mjs").write_text("script")
    with server(folder=folder) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        address = f"http://localhost:{serving.server_port}/"
        with urllib.request.urlopen(f"{address}ort.mjs") as answer:
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            assert answer.headers["Content-Type"] == "text/javascript"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}../secret")
        serving.shutdown()


def test_lessons_link_to_where_the_page_is_served():
    texts = [path.read_text("utf-8") for path in [*ROOT.glob("notebooks/*.py"), *ROOT.glob("docs/*.md")]]
    assert {port for text in texts for port in re.findall(r"//localhost:(\d+)", text)} == {str(PORT)}


@pytest.mark.live
def test_commands_of_the_page_are_the_calls_that_it_samples():
    """The command line and the line of Python that the page writes for a case, read by the program, give the case's
    matrices."""
    model = load("stickers", device="cpu")
    edits = json.loads((SITE / "model" / "cases.json").read_text())["edits"]
    written = subprocess.run(["node", "test/support/commands.js"], cwd=SITE, capture_output=True, check=True, text=True)
    lines = json.loads(written.stdout)
    assert len(lines) == len(edits)
    for edit, (command, python) in zip(edits[::6], lines[::6]):  # each takes 10 ms
        program, subcommand, *_ = words = shlex.split(command)
        assert (program, subcommand) == ("p2p", "edit")
        given = parsed(words[1:])
        keywords = eval(python, {"p2p": SimpleNamespace(edit=lambda *prompts, **how: (prompts, how))})
        in_python, _ = from_keywords(
            options.Edit, "p2p.edit", {"source": keywords[0][0], "targets": keywords[0][1:]} | keywords[1]
        )
        tokens = [model.tokenizer.encode(prompt) for prompt in (edit["source"], edit["target"])]
        calls = [call_of(each, model, tokens) for each in (given, in_python)]
        assert calls[0] == calls[1]
        assert (calls[0].sampling.seed, calls[0].sampling.steps, calls[0].sampling.guidance) == (7, 20, 5.5)
        injection = calls[0].p2p(model, tokens).injection
        for step in edit["steps"]:
            at = injection(step["t"])
            (matrices,) = at.matrices
            P = torch.zeros_like(matrices.P)
            for i, j, share in step["P"]:
                P[i, j] = share
            torch.testing.assert_close(matrices.P, P, rtol=0, atol=0)  # the same numbers
            torch.testing.assert_close(matrices.Q, torch.tensor(step["Q"], dtype=P.dtype), rtol=0, atol=0)
            assert at.self_shares == [step["self"]]
