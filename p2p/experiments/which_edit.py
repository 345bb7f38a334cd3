"""Which edit needs which options: `python -m p2p.experiments.which_edit` writes `docs/which-edit.md`.

It makes edits of every kind in several ways by the shipped model, and judges them against the rendered world. (That is
drawn with art that npm fetches once.)
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.experiments.which_edit"))

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count, groupby, islice
from pathlib import Path

import torch
from jaxtyping import UInt8
from numpy import ndarray
from tqdm import tqdm

from ldm.helpers.files import check_writable, save_atomically
from ldm.helpers.images import to_tensor
from ldm.pipeline import LatentDiffusion
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.call import Sampling
from p2p.edits import Edit, Preserve, Refine, Reweight
from p2p.experiments.edit_kinds import EDITS, FACTORS, REMOVALS, SETTINGS, Case, Setting
from p2p.experiments.record import record, rerun
from weights.load import load
from weights.training.art import Art, load_art
from weights.training.data import HELD_OUT_SEEDS
from weights.training.judge import Reading, read, right
from weights.training.render import render
from weights.training.world import Scene, sample_scene

OUTPUT = Path("docs/which-edit.md")
STEPS, SEEDS = 30, (0, 1)
SCENES = 60  # to validate the judge on
FIRST = HELD_OUT_SEEDS + 1_000_000  # none of these scenes was looked at while the judge was written
ATTRIBUTES = ("noun", "size", "colour", "pattern", "place", "weather")


def edit_of(setting: Setting, case: Case, model: LatentDiffusion) -> Edit:
    """The edit that the command line makes of the setting's options."""
    if setting.preserve:
        return Preserve(case.kept)
    alpha = Alpha(setting.tau)
    if setting.factor is not None:
        return Refine(alpha) + Reweight(case.word, setting.factor)
    return Edit.between(*map(model.tokenizer.encode, case.prompts), alpha)


def images(
    model: LatentDiffusion, case: Case, settings: tuple[Setting, ...], seed: int
) -> Iterator[UInt8[ndarray, "H W 3"]]:
    """The source's image, then the target's in every setting; the source is run once."""
    source, target = case.prompts
    recording = record(model, source, Sampling(seed, STEPS))
    yield model.decode(recording.state(STEPS - 1).z_t)[0]
    for until, same in groupby(settings, lambda setting: setting.self_until):
        edits = tuple(edit_of(setting, case, model) for setting in same)
        p2p = PromptToPrompt(model, source, (target,) * len(edits), edits, SelfInjection(until))
        *_, last = rerun(p2p, recording)
        yield from model.decode(last.z_t[1:])


def edits_table(
    model: LatentDiffusion, art: Art, first: str, kinds: dict[str, list[Case]], settings: tuple[Setting, ...], bar: tqdm
) -> str:
    """In Markdown, how many edits of each kind are correct in each setting."""
    lines = [f"| {first} | {' | '.join(setting.name for setting in settings)} |", "|---" * (len(settings) + 1) + "|"]
    for kind, cases in kinds.items():
        possible = tuple(setting for setting in settings if not setting.preserve or all(case.kept for case in cases))
        of_all, counts = 0, Counter()
        for case in cases:
            for seed in SEEDS:
                made = images(model, case, possible, seed)
                before, *after = (read(image, art, (case.source, case.target)) for image in made)
                bar.update()
                if right(before, before, case.source, case.source):
                    of_all += 1
                    counts.update(s for s, one in zip(possible, after) if right(before, one, case.source, case.target))
        cells = (f"{counts[setting]} of {of_all}" if setting in possible else "" for setting in settings)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def validation_scenes() -> list[Scene]:
    """Such as the edits are of: photos, paintings without weather, and nothing with sprinkles."""
    scenes = (sample_scene(seed) for seed in count(FIRST))
    seen = lambda scene: scene.style == "photo" or (scene.style == "painting" and scene.weather is None)
    plain = lambda scene: all(thing.pattern != "with sprinkles" for thing in scene.things)
    return list(islice((scene for scene in scenes if seen(scene) and plain(scene)), SCENES))


def agreement(reading: Reading, scene: Scene) -> Iterator[tuple[str, bool]]:
    """Yield each attribute that the scene shows, and True if it is read correctly; of objects whose noun is, only."""
    yield from (("place", reading.place == scene.place), ("weather", reading.weather == scene.weather))
    for thing in scene.things:
        found = next((found for found in reading.found if found.thing.noun == thing.noun), None)
        yield "noun", found is not None
        if found:
            yield "size", found.size_word(len(scene.things)) == thing.size
            for name in ("colour", "pattern"):
                if asked := getattr(thing, name):
                    yield name, getattr(found.thing, name) == asked


def validation_table(model: LatentDiffusion, art: Art, bar: tqdm) -> str:
    """In Markdown, how often true images are read correctly, as they are and through the autoencoder."""
    lines = [f"| {SCENES} scenes | {' | '.join(ATTRIBUTES)} |", "|---" * (len(ATTRIBUTES) + 1) + "|"]
    counts = {"rendered": Counter(), "through the autoencoder": Counter()}
    for scene in validation_scenes():
        image = render(scene, art)
        z_0 = model.autoencoder.encode(to_tensor(image[None]), torch.zeros(1, *model.latent_shape))
        for counted, shown in zip(counts.values(), (image, model.decode(z_0)[0])):
            counted.update(agreement(read(shown, art, (scene,)), scene))
        bar.update()
    for way, counted in counts.items():
        cells = (f"{counted[name, True]} of {counted[name, True] + counted[name, False]}" for name in ATTRIBUTES)
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    check_writable(OUTPUT)
    model, art = load("stickers", device="cpu"), load_art()
    cases = len(SEEDS) * sum(map(len, (*EDITS.values(), *REMOVALS.values())))
    with tqdm(total=SCENES + cases, unit="scene", file=sys.stderr) as bar:
        text = PAGE.format(
            validation=validation_table(model, art, bar),
            edits=edits_table(model, art, "edit", EDITS, SETTINGS, bar),
            removals=edits_table(model, art, "the same prompt without", REMOVALS, FACTORS, bar),
            seeds=" and ".join(map(str, SEEDS)),
        )
    save_atomically(lambda part: part.write_text(text, encoding="utf-8"), OUTPUT)
    print(OUTPUT)


PAGE = """\
# Which edit needs which options

Made by `python -m p2p.experiments.which_edit`: every kind of edit by the included model, with several options, the
others at their defaults, for three pairs of prompts of each kind and the seeds {seeds}. A cell counts six edits, minus
those whose source image is not read as its own prompt; with so few, 6 of 6 and 4 of 6 may not differ.

An edit is correct if its image is read as the target's prompt, nothing that was removed remains visible, and what the
prompts share is preserved: its position within 12 of 128 pixels (unless the relation changes), its size within a third.

{edits}

NOUN is the first noun that both prompts have. The defaults are those of every edit but another object, tau 0.2 and
self-until 0.6. `no injection` is the same seed alone (`--tau never --self-until never`).

Can a weight remove a word? Source and target are the same prompt, with the word's attention multiplied; an image of
the prompt without the word, with the rest in its place, is correct:

{removals}

## Accuracy of the reading

An image is read as the rendered scene with the smallest residual, among all nouns, places, sizes and weathers; styles
and patterns are chosen among those that the two prompts name, and colours only if one is named
([`weights/training/judge.py`](../weights/training/judge.py)). On scenes that training never saw, these are read
correctly (colours and patterns of objects that have one and whose noun is read correctly):

{validation}

It cannot read pencil drawings, paintings in fog or snow, and sprinkles: no edit above has them. Stripes in another
position than on the true sticker are read as none.
"""
