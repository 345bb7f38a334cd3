"""Results: a source and its edited targets, which `p2p.edit` returns, and the drawings of the other functions."""

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ldm.pipeline import LatentDiffusion
from ldm.states import State
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt
from p2p.call import Call, Sampling
from p2p.inject import layout_side
from p2p.inversion.inverted import Inverted
from p2p.maps import MapHistory
from p2p.words import columns


@dataclass(frozen=True, eq=False)
class Maps:
    """The cross-attention maps of one prompt: `maps["cat"]` is the map of a word, averaged over the steps.

    Args:
        tokens: of the prompt.
        words: the labels of axis n of A: the words by name, then "other tokens" if there are any, then "BOS EOS PAD".
        times: the labels of axis k of A: t of the network calls.
        A: the attention used, averaged over heads and over the layers at the model's `layout_side`; over n it sums to
            1, unless an edit reweights or drops columns.
    """

    tokens: Tokens
    words: tuple[str, ...]
    times: tuple[int, ...]
    A: Float[np.ndarray, "k n h w"]

    def __getitem__(self, word: str) -> Float[np.ndarray, "h w"]:
        """Raises ValueError for a word that is not in the prompt, or occurs several times."""
        if word not in self.words:
            columns(self.tokens, word)  # raises for both, and lists the words
            raise ValueError(f"there is no map of {word!r} by itself, only of {', '.join(self.words)}")
        return self.A[:, self.words.index(word)].mean(axis=0)

    def __repr__(self) -> str:
        return f"<maps of {self.tokens.prompt!r}: A {self.A.shape}, of {', '.join(self.words)}>"


def maps_of(history: MapHistory, side: int) -> Maps:
    """The recorded maps of the layers with this resolution. Raises ValueError if there are none."""
    groups = history.at_side(side)
    steps = [np.stack([word.numpy() for word in history.mean(groups, [t]).values()]) for t in history.times]
    return Maps(history.tokens, tuple(history.words), tuple(history.times), np.stack(steps))


def png(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, which a notebook displays, and the data that it shows."""

    image: Image.Image
    data: object

    def _repr_png_(self) -> bytes:
        return png(self.image)

    def __repr__(self) -> str:
        return f"<figure of {self.image.width}x{self.image.height} pixels: image, data>"


@dataclass(frozen=True, eq=False)
class Result:
    """A source and its targets. A notebook displays the source beside the targets, or the requested figure.

    Args:
        p2p: the model, the tokenised prompts and the compiled edits.
        call: the settings: `p2p.replay(call)` repeats the edit, `call.to_json()` saves it.
        images: of the source, then of the targets.
        states: after each step; row 0 is the source's.
        histories: the attention maps of each prompt's words, if recorded.
        figure: displayed instead of the images.
        inverted: of a real image, from which all were sampled.
        given: the real image, at the model's size.
    """

    p2p: PromptToPrompt
    call: Call
    images: UInt8[np.ndarray, "b H W 3"]
    states: Sequence[State]
    histories: Sequence[MapHistory] = ()
    figure: Image.Image | None = None
    inverted: Inverted | None = None
    given: UInt8[np.ndarray, "H W 3"] | None = None

    @property
    def source(self) -> Image.Image:
        return Image.fromarray(self.images[0])

    @property
    def targets(self) -> list[Image.Image]:
        return [Image.fromarray(image) for image in self.images[1:]]

    @property
    def image(self) -> Image.Image:
        """The displayed image."""
        given = [] if self.given is None else [self.given]
        return self.figure or Image.fromarray(np.concatenate([*given, *self.images], axis=1))

    @cached_property
    def maps(self) -> list[Maps]:
        """The attention maps of the words of each prompt, the source's first.

        If the run did not record them, the call is sampled once more, with attention maps. That rounds differently, by
        at most 1 in the bytes of an image; `images` keeps those of the first run.
        """
        histories = self.histories or edited(self.p2p, self.call, watched=True, inverted=self.inverted).histories
        return [maps_of(history, layout_side(self.p2p.model)) for history in histories]

    def _repr_png_(self) -> bytes:
        return png(self.image)

    def __repr__(self) -> str:
        targets = ", ".join(repr(target.prompt) for target in self.call.targets)
        return f"<edit of {self.call.source!r} to {targets}: source, targets, images, maps, states, call>"


def edited(p2p: PromptToPrompt, call: Call, watched: bool = False, inverted: Inverted | None = None) -> Result:
    """Sample the source and its targets by Prompt-to-Prompt, from noise or from an inverted image, and record the
    attention maps of words if `watched`.

    Raises:
        ValueError: a setting does not fit, or a prompt to watch has no words; no step has been made.
    """
    histories = histories_of(p2p) if watched else []
    run = call.run(p2p, histories, inverted)
    return replace(sampled(p2p, call, run, histories, "Prompt-to-Prompt" if watched else ""), inverted=inverted)


def sampled(
    p2p: PromptToPrompt, call: Call, run: Iterator[State], histories: list[MapHistory], name: str = ""
) -> Result:
    """Complete a run of the call's prompts, whose maps go to the histories that watch it."""
    visited = call.sampling.times(p2p.model.schedule)
    for history in histories:
        run = history.along(run, visited)
    states = with_progress(run, p2p.model, call.sampling, name)
    return Result(p2p, call, p2p.model.decode(states[-1].z_t), states, histories)


def with_progress(states: Iterator[State], model: LatentDiffusion, sampling: Sampling, name: str = "") -> list[State]:
    """Collect the states of a run, with a progress bar on standard error."""
    calls = len(sampling.times(model.schedule)) - 1
    with logging_redirect_tqdm():  # warnings appear above the bar, each on its own line
        return list(tqdm(states, name or None, total=calls, unit="step", file=sys.stderr))


def histories_of(p2p: PromptToPrompt) -> list[MapHistory]:
    """Records of the maps of every prompt, empty at first. Raises ValueError for a prompt without words."""
    return [MapHistory(tokens, row=row) for row, tokens in enumerate(p2p.tokens)]
