"""The attention displaced by an inserted or a deleted phrase [P10]: `python -m p2p.experiments.displaced_attention`
compares three treatments of it with the included model.

A prompt with a phrase more has less padding, and one with a phrase less has no place for the phrase's attention. As
printed, A^_j = A_a(j) copies columns and loses what no column copies: that is `Refine`. `Moved` moves it, so that rows
keep their sums. google/prompt-to-prompt aligns padding by position, so that deleted words return through it.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.experiments.displaced_attention"))

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from ldm.helpers.checks import check_fields
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.call import Sampling
from p2p.edits import Edit, MatricesAt, Refine, claim
from p2p.experiments.edit_kinds import EDITS, Case
from p2p.experiments.record import record, rerun
from p2p.experiments.reference import Reference
from p2p.mappers import align, aligned_columns, mapper
from weights.load import load
from weights.training.art import load_art
from weights.training.judge import Reading, read, right

STEPS, SEEDS, TAUS = 30, range(4), (0.2, 0.5)
INSERTIONS = [case for kind, cases in EDITS.items() if kind.endswith("added") for case in cases]
DELETIONS = [Case(case.target, case.source) for case in INSERTIONS]


@dataclass(frozen=True)
class Moved(Edit):
    """`Refine` with displaced attention moved, not lost: that of a deleted word to BOS, that of padding to the target's
    first padding."""

    alpha: Alpha = Alpha()

    def __post_init__(self):
        check_fields(self)

    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        alignment, m = align(source, target), len(source.ids)
        return claim(before, aligned_columns(alignment, m), mapper(alignment, m), self.alpha.compile(target, T))

    def __str__(self) -> str:
        return "shared words keep the source's attention, rows their sums"


WAYS: dict[str, Callable[[Alpha], Edit]] = {
    "as printed": Refine,
    "moved": Moved,
    "google's": lambda alpha: Reference("refine", alpha),
}


def psnr_outside(picture: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"], *readings: Reading) -> float:
    """PSNR in dB where neither picture has a thing."""
    outside = np.ones(picture.shape[:2], dtype=bool)
    for reading in readings:
        for found in reading.found:
            r = round(found.side / 2) + 4
            outside[max(found.y - r, 0) : found.y + r, max(found.x - r, 0) : found.x + r] = False
    return 10 * np.log10(255**2 / np.square(picture[outside].astype(float) - other[outside]).mean())


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model, art = load("stickers", device="cpu"), load_art()
    names = [(way, tau) for tau in TAUS for way in WAYS]
    with tqdm(total=2 * len(INSERTIONS) * len(SEEDS), unit="edit", file=sys.stderr) as bar:
        for kind, cases in (("insertions", INSERTIONS), ("deletions", DELETIONS)):
            counted, correct, kept = 0, defaultdict(int), defaultdict(list)
            for case in cases:
                source, target = case.prompts
                edits = tuple(WAYS[way](Alpha(tau)) for way, tau in names)
                for seed in SEEDS:
                    bar.update()
                    recording = record(model, source, Sampling(seed, STEPS))
                    before = model.decode(recording.state(STEPS - 1).z_t)[0]
                    seen = read(before, art, (case.source, case.target))
                    if not right(seen, seen, case.source, case.source):
                        continue
                    counted += 1
                    p2p = PromptToPrompt(model, source, (target,) * len(edits), edits, SelfInjection())
                    *_, last = rerun(p2p, recording)
                    for name, picture in zip(names, model.decode(last.z_t[1:])):
                        reading = read(picture, art, (case.source, case.target))
                        correct[name] += right(seen, reading, case.source, case.target)
                        if case.source.weather == case.target.weather:  # fog has no outside
                            kept[name].append(psnr_outside(before, picture, seen, reading))
            for way, tau in names:
                dB = kept[way, tau]
                gain = np.subtract(kept["as printed", tau], dB)
                print(
                    f"{kind}, tau {tau}, {way}: {correct[way, tau]} of {counted} right; {np.mean(dB):.2f} dB kept, "
                    f"as printed {gain.mean():+.2f} +- {gain.std(ddof=1) / len(gain) ** 0.5:.2f} on {len(gain)}",
                    flush=True,
                )
