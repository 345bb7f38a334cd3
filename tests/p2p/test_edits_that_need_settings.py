"""Edits that the defaults do not make: what docs/editing.md and help advise holds for the shipped model."""

import re
from pathlib import Path

import pytest
import torch

from ldm.pipeline import LatentDiffusion
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.edits import Edit
from p2p.experiments.edit_kinds import EDITS, FACTORS, REMOVALS, SETTINGS
from p2p.local_blend import LocalBlend, Region
from weights.load import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return load("stickers")


def test_a_size_word_needs_less_injection(model):
    """A cat on the beach, the one orange thing in a blue and sandy picture, is to be small."""
    source, target = "a photo of a cat on the beach", "a photo of a small cat on the beach"
    tokens = [model.tokenizer.encode(prompt) for prompt in (source, target)]
    edits = tuple(Edit.between(*tokens, Alpha(tau)) for tau in (0.2, 0.5))
    p2p = PromptToPrompt(model, source, (target, target), edits, SelfInjection(0.6))
    *_, last = p2p.denoise(seed=0, steps=15)
    red, _, blue = torch.from_numpy(model.decode(last.z_t)).float().unbind(-1)
    areas = ((red > 180) & (red - blue > 80)).sum(dim=(1, 2)).tolist()
    # sides of 71, 53 and 44 pixels were read in 30 steps, areas of 1, 0.56 and 0.38
    assert areas[2] < 0.85 * areas[1] and areas[2] < 0.5 * areas[0]


@pytest.mark.parametrize("seed", [0, 7])
def test_the_region_that_the_docs_blend_by_is_no_noise(model, caplog, seed):
    (words,) = re.findall(r"`--blend ([\w,-]+)`", (ROOT / "docs/editing.md").read_text(encoding="utf-8"))
    keep, cut = words.split(",")
    assert warned(model, Region((keep,), (cut.removeprefix("-"),)), seed, caplog) == []


def test_a_region_of_a_place_is_warned_of_by_its_word_and_share(model, caplog):
    (warning,) = warned(model, Region(("dog",), ("grass",)), 7, caplog)
    assert re.match(r"the region of 'grass' is hardly more than noise: the word has \d\.\d% of the attention", warning)


def warned(model: LatentDiffusion, region: Region, seed: int, caplog) -> list[str]:
    """What blending warns of in the first steps in which it cuts."""
    source, target = (f"a photo of a {noun} next to a house on the grass" for noun in ("cat", "dog"))
    tokens = [model.tokenizer.encode(prompt) for prompt in (source, target)]
    local = LocalBlend(tokens[0], tokens[1:], [region], model.schedule.T)
    p2p = PromptToPrompt(model, source, (target,), (Edit.between(*tokens),))
    for state in p2p.denoise(seed, watch=local.maps, blend=local, steps=30):
        if state.t < 750:
            break
    return [record.getMessage() for record in caplog.records if record.name == "p2p.local_blend"]


def test_the_table_has_every_kind_and_setting_that_is_tried():
    lines = (ROOT / "docs/which-edit.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert [row[0] for row in rows] == ["edit", *EDITS, "the same prompt without", *REMOVALS]
    headers = [row[1:] for row in rows if row[0] in ("edit", "the same prompt without")]
    assert headers == [[setting.name for setting in settings] for settings in (SETTINGS, FACTORS)]
    for name, *cells in rows:
        if name in EDITS or name in REMOVALS:
            assert all(re.fullmatch(r"([0-6] of [0-6])?", cell) for cell in cells) and cells[0], name
