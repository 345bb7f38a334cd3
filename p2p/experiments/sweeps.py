"""Experiments on what to inject and when: the tau sweep [P12], the sliding window [P13], preserving one word [P11].

Each is one call, which samples the source and all its edits from the same noise and measures them;
`p2p.figures.sweep_plots` draws the results.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from ldm.helpers.likeness import psnr, structure
from ldm.pipeline import LatentDiffusion, State
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Time, Window
from p2p.edits import Edit, Preserve
from p2p.experiments.fidelity import fidelity
from p2p.inject import Layers, layout_side

CROSS_ONLY = SelfInjection("never")
TAUS = ("never", 0.8, 0.6, 0.4, 0.2, 0.0)
SLIDING = tuple(Window(end=k / 10, start=(k + 2) / 10) for k in range(8, -1, -1))  # of width T / 5, in steps of T / 10
WINDOWS = ("never", *SLIDING, 0.0)


@dataclass(frozen=True)
class Sweep:
    """One target prompt edited in several ways, for several seeds, and the measurements.

    Preservation is the PSNR of the edited image against the source's, over the whole image: the requested change counts
    as a loss too. Structure is insensitive to changes of colour.
    """

    source: str
    target: str
    T: int
    settings: tuple[Time | Window, ...]  # tau of each edit
    originals: UInt8[np.ndarray, "s H W 3"]  # one per seed
    images: UInt8[np.ndarray, "s k H W 3"]
    preservation: Float[Tensor, "s k"]  # `ldm.helpers.likeness.psnr`
    structure: Float[Tensor, "s k"]  # `ldm.helpers.likeness.structure`
    fidelity: Float[Tensor, "s k"]  # `p2p.experiments.fidelity.fidelity`
    fidelity_of_originals: Float[Tensor, " s"]
    seeds: tuple[int, ...]


def sweep(
    model: LatentDiffusion,
    source: str | Tokens,
    target: str | Tokens,
    edit: Callable[[Alpha], Edit],
    taus: Sequence[Time | Window] = TAUS,
    seeds: Sequence[int] = (0,),
    self_injection: SelfInjection = CROSS_ONLY,
    **sampling,
) -> Sweep:
    """[P12, P13] Edit one source with injection at different times; all edits of a seed are one batch.

    With `TAUS` this is the paper's Fig. 6; with `WINDOWS` it shows why the source's attention is injected first.

    Args:
        model: the latent diffusion model.
        source, target: the prompts, or their tokens.
        edit: alpha -> the edit, such as `lambda alpha: Swap("cat", "dog", alpha)`.
        taus: when to inject; 0 is always.
        seeds: of the noise; one source for each.
        self_injection: the same for all edits; none by default, so that the sweep isolates cross-attention.
        sampling: as for `LatentDiffusion.denoise`.

    Raises:
        ValueError: the edit does not fit the prompts, or a time is out of range.
    """
    edits = tuple(edit(Alpha(tau)) for tau in taus)
    p2p = PromptToPrompt(model, source, (target,) * len(edits), edits, self_injection)
    y, y_star, *_ = p2p.prompts
    originals, images, fits = [], [], []
    for seed in seeds:
        last = _last(p2p.denoise(seed, **sampling), f"seed {seed}")
        batch = model.decode(last.z_t)
        originals.append(batch[0])
        images.append(batch[1:])
        fits.append(fidelity(model, batch, *p2p.tokens[:2]))
    likeness = lambda measure: torch.tensor([[measure(p, o) for p in row] for o, row in zip(originals, images)])
    return Sweep(
        y,
        y_star,
        model.schedule.T,
        tuple(taus),
        np.stack(originals),
        np.stack(images),
        preservation=likeness(psnr),
        structure=likeness(structure),
        fidelity=torch.stack(fits)[:, 1:],
        fidelity_of_originals=torch.stack(fits)[:, 0],
        seeds=tuple(seeds),
    )


@dataclass(frozen=True)
class Preservation:
    """The source, and its targets in three versions."""

    source: str
    targets: tuple[str, ...]
    word: str
    original: UInt8[np.ndarray, "H W 3"]
    injected: UInt8[np.ndarray, "k H W 3"]  # the source's attention for all words
    preserved: UInt8[np.ndarray, "k H W 3"]  # ... for the one word
    same_seed: UInt8[np.ndarray, "k H W 3"]  # ... for none


def preserve(
    model: LatentDiffusion,
    source: str | Tokens,
    targets: Sequence[str | Tokens],
    word: str,
    edits: Sequence[Edit],
    seed: int = 0,
    **sampling,
) -> Preservation:
    """[P11] The paper's Fig. 5: what injecting one word's attention preserves, compared with all words' and none's.

    Args:
        model: the latent diffusion model.
        source, targets: the prompts, or their tokens.
        word: a word of all prompts.
        edits: one per target, with all words injected.
        seed: of the noise.
        sampling: as for `LatentDiffusion.denoise`.

    Raises:
        ValueError: the word is not in a prompt, or an edit does not fit.
    """
    layout = SelfInjection(layers=Layers(side=layout_side(model)))
    full = PromptToPrompt(model, source, tuple(targets), tuple(edits), layout)
    source, *others = full.tokens
    # self-attention is not tied to words: injecting it would preserve all of them
    one = PromptToPrompt(model, source, tuple(others), (Preserve(word),) * len(others), CROSS_ONLY)
    runs = {
        "all words": full.denoise(seed, **sampling),
        f"{word} alone": one.denoise(seed, **sampling),
        "no word": model.denoise(model.encode_tokens(full.tokens), [seed] * len(full.tokens), **sampling),
    }
    batches = []
    for name, run in runs.items():
        batches.append(model.decode(_last(run, name).z_t))
    return Preservation(full.source, full.targets, word, batches[-1][0], *(batch[1:] for batch in batches))


def _last(states: Iterator[State], name: str) -> State:
    *_, last = tqdm(states, name, unit="step", file=sys.stderr)
    return last
