"""Which edit needs which options: `python -m weights.stickers.which_edit` writes `docs/which-edit.md`.

It makes edits of every kind in several ways by the shipped model, and judges them against the rendered world.

An edit is right if the picture is read as the target's scene (`weights.stickers.judge`) with all that stays where it
was. Pictures whose source is not read as its own prompt are left out.
"""

import argparse
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import UInt8
from numpy import ndarray
from tqdm import tqdm

from ldm.files import save_atomically
from ldm.pictures import to_tensor
from ldm.pipeline import LatentDiffusion
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.call import Sampling
from p2p.edits import Edit, Preserve, Refine, Reweight
from p2p.record import record, rerun
from weights.load import load
from weights.stickers.art import load_art
from weights.stickers.data import held_out_scenes
from weights.stickers.edit_kinds import EDITS, FACTORS, REMOVALS, SETTINGS, Case, Setting
from weights.stickers.judge import Found, Reading, read
from weights.stickers.render import render
from weights.stickers.world import Scene, Thing

OUTPUT = Path("docs/which-edit.md")
STEPS, SEEDS = 30, (0, 1)
SCENES = 60  # to validate the judge on
NEAR = 12  # pixels by which what stays may move: a tenth of the picture, a fifth of an ordinary thing
ALIKE = 1.33  # factor within which the side of what stays may change: less than from an ordinary thing to a big one


def right(before: Reading, after: Reading, source: Scene, target: Scene) -> bool:
    """Whether the picture shows the target's scene, and what stays stands where it stood in the source's picture."""
    if (after.style, len(after.found)) != (target.style, len(target.things)):
        return False
    if target.style != "pencil drawing" and (after.place, after.weather) != (target.place, target.weather):
        return False
    places = {}
    for i, thing in enumerate(target.things):
        places[i] = next((f for f in after.found if _same(f.thing, thing, target.style)), None)
        was = source.things[i] if len(source.things) == len(target.things) or i == 0 else None
        stood = was and next((f for f in before.found if _same(f.thing, was, source.style)), None)
        if places[i] is None or (was and stood is None):
            return False
        far = NEAR
        if was and thing.size != was.size:
            if places[i].size_word(len(target.things)) != thing.size:
                return False
            far += abs(places[i].side - stood.side) / 2  # what grows at the picture's edge must come in
        elif stood and not 1 / ALIKE < places[i].side / stood.side < ALIKE:
            return False
        moves = target.relation is not None and source.relation is not None and source.relation != target.relation
        if stood and not moves and max(abs(places[i].x - stood.x), abs(places[i].y - stood.y)) > far:
            return False
    return target.relation is None or target.relation == relation(places[0], places[1])


def _same(found: Thing, asked: Thing, style: str) -> bool:
    colour = None if style == "pencil drawing" else asked.colour
    return (found.noun, found.colour, found.pattern) == (asked.noun, colour, asked.pattern)


def relation(first: Found, second: Found) -> str:
    """Which of the world's relations two things stand in."""
    across, down = abs(first.x - second.x), second.y - first.y
    return "next to" if across > abs(down) else "above" if down > 0 else "below"


def validate(model: LatentDiffusion, number: int, bar: tqdm) -> tuple[int, list[int]]:
    """How often true pictures, seen through the autoencoder, are read right.

    Returns:
        (the number of things; of how many the noun is read right, and with it the colour, the size, the pattern)
    """
    art, things, counts = load_art(), 0, [0, 0, 0, 0]
    plain = lambda thing: replace(thing, pattern=None if thing.pattern == "with sprinkles" else thing.pattern)
    for scene in held_out_scenes(number):  # sprinkles are too fine for the autoencoder
        scene = scene.replace(things=tuple(map(plain, scene.things)))
        x = to_tensor(render(scene, art)[None])
        z_0 = model.autoencoder.encode(x, torch.zeros(1, *model.latent_shape))
        found = read(model.decode(z_0)[0], art, scene.things).found
        pencil = scene.style == "pencil drawing"
        for thing in scene.things:
            f = next((f for f in found if f.thing.noun == thing.noun), None)
            things += 1
            if f is not None:
                same = (True, f.thing.colour == thing.colour or pencil)
                same += (f.size_word(len(scene.things)) == thing.size, f.thing.pattern == thing.pattern)
                counts = [n + one for n, one in zip(counts, same)]
        bar.update()
    return things, counts


def edit_of(setting: Setting, case: Case, model: LatentDiffusion) -> Edit:
    """The edit that the command line makes of the setting's options."""
    if setting.preserve:
        return Preserve(case.kept)
    alpha = Alpha(setting.tau)
    if setting.factor is not None:
        return Refine(alpha) + Reweight(case.word, setting.factor)
    return Edit.between(*map(model.tokenizer.encode, case.prompts), alpha)


def pictures(
    model: LatentDiffusion, case: Case, settings: tuple[Setting, ...], seed: int
) -> Iterator[UInt8[ndarray, "H W 3"]]:
    """The source's picture, then the target's in every setting; the source is run once."""
    source, target = case.prompts
    recording = record(model, source, Sampling(seed, STEPS))
    yield model.decode(recording.state(STEPS - 1).z_t)[0]
    for until, same in groupby(settings, lambda setting: setting.self_until):
        edits = tuple(edit_of(setting, case, model) for setting in same)
        p2p = PromptToPrompt(model, source, (target,) * len(edits), edits, SelfInjection(until))
        *_, last = rerun(p2p, recording)
        yield from model.decode(last.z_t[1:])


def table(
    model: LatentDiffusion, first: str, kinds: dict[str, list[Case]], settings: tuple[Setting, ...], seeds, bar: tqdm
) -> list[str]:
    """The lines of a table in Markdown: how many edits of each kind are right in each setting."""
    art = load_art()
    lines = [f"| {first} | {' | '.join(setting.name for setting in settings)} |", "|---" * (len(settings) + 1) + "|"]
    for kind, cases in kinds.items():
        counts, of_all = dict.fromkeys(settings, 0), 0
        if not all(case.kept for case in cases):  # there is no noun to preserve
            counts = {setting: n for setting, n in counts.items() if not setting.preserve}
        for case in cases:
            hints = case.source.things + case.target.things
            for seed in seeds:
                before, *after = (read(picture, art, hints) for picture in pictures(model, case, tuple(counts), seed))
                bar.update()
                if right(before, before, case.source, case.source):
                    of_all += 1
                    for setting, one in zip(counts, after):
                        counts[setting] += right(before, one, case.source, case.target)
        cells = (f"{counts[setting]} of {of_all}" if setting in counts else "" for setting in settings)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one prompt and one seed of each kind, and write no file")
    quick = parser.parse_args().quick
    model = load("stickers")
    edits, removals, seeds = EDITS, REMOVALS, SEEDS
    if quick:
        edits, removals = ({kind: cases[:1] for kind, cases in kinds.items()} for kinds in (EDITS, REMOVALS))
        seeds = SEEDS[:1]
    scenes = 5 if quick else SCENES
    total = scenes + len(seeds) * sum(map(len, (*edits.values(), *removals.values())))
    with tqdm(total=total, unit="scene", file=sys.stderr) as bar:
        things, counts = validate(model, scenes, bar)
        first = table(model, "edit", edits, SETTINGS, seeds, bar)
        second = table(model, "the same prompt without", removals, FACTORS, seeds, bar)
    noun, colour, size, pattern = counts
    text = PAGE.format(
        processor=processor(),
        prompts="one prompt" if quick else "three prompts",
        seeds=" and ".join(map(str, seeds)),
        edits="\n".join(first),
        removals="\n".join(second),
        **dict(scenes=scenes, things=things, noun=noun, colour=colour, size=size, pattern=pattern),
    )
    if quick:
        print(text)
        return
    save_atomically(lambda part: part.write_text(text, encoding="utf-8"), OUTPUT)
    print(OUTPUT)


def processor() -> str:
    """The processor's name as Linux tells it, elsewhere its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


PAGE = """\
# Which edit needs which options

Made by `python -m weights.stickers.which_edit` on {processor}: every kind of edit in several ways by the shipped model,
at its other defaults; {prompts} of each kind, of seed {seeds}. An edit is right if its picture is read as the
target's prompt (the noun, colour, size, place, weather and style that fit the picture best of all that the world has,
and the pattern among those asked for) and what the prompts share stays: within 12 of 128 pixels of its place, and its
size within a third. Counts are of the pictures whose source is read as its own prompt.

{edits}

NOUN is the first noun that both prompts have. `no injection` is the same seed alone
(`--tau 1.0 --self-until 1.0`).

Can a weight remove a word? The same prompt twice, with the word's attention multiplied:

{removals}

How far is the reading to be trusted? Of the {things} things in {scenes} rendered scenes, put through the autoencoder,
it names {noun} right, and of these the colour of {colour}, the size of {size} and the pattern of {pattern}. It can't
tell sprinkles, nor place and weather of pencil drawings. How it is done:
[`weights/stickers/judge.py`](../weights/stickers/judge.py).
"""

if __name__ == "__main__":
    main()
