"""Experiments on what to inject and when: the tau sweep [P12], the sliding window [P13], preserving one word [P11].

Each is one call, which samples the source and all its edits from the same noise, or from one inversion of a real image,
and measures them; `p2p.figures.sweep_plots` draws the results.
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
from ldm.pipeline import LatentDiffusion
from ldm.states import State
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Time, Window
from p2p.edits import Edit, Preserve
from p2p.experiments.fidelity import fidelity
from p2p.inject import Layers, layout_side
from p2p.inversion.inverted import Inverted

CROSS_ONLY = SelfInjection("never")
TAUS = ("never", 0.8, 0.6, 0.4, 0.2, 0.0)
SLIDING = tuple(Window(end=k / 10, start=(k + 2) / 10) for k in range(8, -1, -1))  # of width T / 5, in steps of T / 10
WINDOWS = ("never", *SLIDING, 0.0)


@dataclass(frozen=True)
class Sweep:
    """One target prompt edited in several ways, for several seeds, and the measurements.

    Preservation is the PSNR of the edited image against the source's, over the whole image: the requested change counts
    as a loss too. Structure is insensitive to changes of colour. Of a real image both are against the image itself, not
    against the source as its inversion returns to it.
    """

    source: str
    target: str
    T: int
    settings: tuple[Time | Window, ...]  # tau of each edit
    originals: UInt8[np.ndarray, "s H W 3"]  # the source as sampled, one per seed
    images: UInt8[np.ndarray, "s k H W 3"]
    preservation: Float[Tensor, "s k"]  # `ldm.helpers.likeness.psnr`
    structure: Float[Tensor, "s k"]  # `ldm.helpers.likeness.structure`
    fidelity: Float[Tensor, "s k"]  # `p2p.experiments.fidelity.fidelity`
    fidelity_of_originals: Float[Tensor, " s"]
    seeds: tuple[int, ...]
    given: UInt8[np.ndarray, "H W 3"] | None = None  # the real image


def sweep(
    model: LatentDiffusion,
    source: str | Tokens,
    target: str | Tokens,
    edit: Callable[[Alpha], Edit],
    taus: Sequence[Time | Window] = TAUS,
    seeds: Sequence[int] = (0,),
    self_injection: SelfInjection = CROSS_ONLY,
    inverted: Inverted | None = None,
    given: UInt8[np.ndarray, "H W 3"] | None = None,
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
        inverted: of a real image by the same settings, which all edits start from instead of noise.
        given: the real image, at the model's size.
        sampling: as for `LatentDiffusion.denoise`.

    Raises:
        ValueError: the edit does not fit the prompts, a time is out of range, or an image has several seeds.
    """
    if inverted and len(seeds) > 1:
        raise ValueError(f"an image has one noise, so its edits are the same for all of the seeds {seeds}: give one")
    edits = tuple(edit(Alpha(tau)) for tau in taus)
    p2p = PromptToPrompt(model, source, (target,) * len(edits), edits, self_injection)
    y, y_star, *_ = p2p.prompts
    how = sampling | (inverted.options(len(p2p.prompts)) if inverted else {})
    originals, images, fits = [], [], []
    for seed in seeds:
        last = _last(p2p.denoise(seed, **how), "edits of the image" if inverted else f"seed {seed}")
        batch = model.decode(last.z_t)
        originals.append(batch[0])
        images.append(batch[1:])
        fits.append(fidelity(model, batch, *p2p.tokens[:2]))
    kept = originals if given is None else [given] * len(seeds)
    likeness = lambda measure: torch.tensor([[measure(p, o) for p in row] for o, row in zip(kept, images)])
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
        given=given,
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
    same_seed: UInt8[np.ndarray, "k H W 3"]  # ... for none; of a real image from the same noise
    given: UInt8[np.ndarray, "H W 3"] | None = None  # the real image


def preserve(
    model: LatentDiffusion,
    source: str | Tokens,
    targets: Sequence[str | Tokens],
    word: str,
    edits: Sequence[Edit],
    seed: int = 0,
    inverted: Inverted | None = None,
    given: UInt8[np.ndarray, "H W 3"] | None = None,
    **sampling,
) -> Preservation:
    """[P11] The paper's Fig. 5: what injecting one word's attention preserves, compared with all words' and none's.

    Args:
        model: the latent diffusion model.
        source, targets: the prompts, or their tokens.
        word: a word of all prompts.
        edits: one per target, with all words injected.
        seed: of the noise.
        inverted, given: a real image, as for `sweep`.
        sampling: as for `LatentDiffusion.denoise`.

    Raises:
        ValueError: the word is not in a prompt, or an edit does not fit.
    """
    layout = SelfInjection(layers=Layers(side=layout_side(model)))
    full = PromptToPrompt(model, source, tuple(targets), tuple(edits), layout)
    source, *others = full.tokens
    # self-attention is not tied to words: injecting it would preserve all of them
    one = PromptToPrompt(model, source, tuple(others), (Preserve(word),) * len(others), CROSS_ONLY)
    how = sampling | (inverted.options(len(full.tokens)) if inverted else {})
    runs = {
        "all words": full.denoise(seed, **how),
        f"{word} alone": one.denoise(seed, **how),
        "no word": model.denoise(full.context, [seed] * len(full.tokens), **how),
    }
    batches = []
    for name, run in runs.items():
        batches.append(model.decode(_last(run, name).z_t))
    edited = (batch[1:] for batch in batches)
    return Preservation(full.source, full.targets, word, batches[-1][0], *edited, given=given)


def _last(states: Iterator[State], name: str) -> State:
    *_, last = tqdm(states, name, unit="step", file=sys.stderr)
    return last
