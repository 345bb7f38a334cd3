"""A source and its edited targets, sampled: what `p2p.edit` returns."""

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ldm.pipeline import LatentDiffusion, State
from ldm.tokenizer import Tokens
from p2p.call import Call, Sampling
from p2p.inject import layout_side
from p2p.maps import MapHistory
from p2p.words import columns


@dataclass(frozen=True, eq=False)
class Maps:
    """The cross-attention of one prompt: `maps["cat"]` is the map of a word, averaged over the steps.

    Args:
        tokens: of the prompt.
        words: what the axis n of A holds: the words, by name, then "other tokens" if there are any, then "BOS EOS PAD".
        times: t of the network calls, what the axis k of A holds.
        A: the attention used, averaged over heads and over the layers at the model's `layout_side`; over n it sums to
            1, but where an edit re-weights or drops some.
    """

    tokens: Tokens
    words: tuple[str, ...]
    times: tuple[int, ...]
    A: Float[np.ndarray, "k n h w"]

    def __getitem__(self, word: str) -> Float[np.ndarray, "h w"]:
        """Raises ValueError for a word that the prompt does not have, or has several times."""
        if word not in self.words:
            columns(self.tokens, word)  # refuses it, with the words that there are
            raise ValueError(f"there is no map of {word!r} by itself, only of {', '.join(self.words)}")
        return self.A[:, self.words.index(word)].mean(axis=0)

    def __repr__(self) -> str:
        return f"<maps of {self.tokens.prompt!r}: A {self.A.shape}, of {', '.join(self.words)}>"


def maps_of(history: MapHistory, side: int) -> Maps:
    """What was recorded in the layers of this resolution. Raises ValueError if none has it."""
    groups = history.at_side(side)
    steps = [np.stack([word.numpy() for word in history.mean(groups, [t]).values()]) for t in history.times]
    return Maps(history.tokens, tuple(history.words), tuple(history.times), np.stack(steps))


@dataclass(frozen=True, eq=False)
class Result:
    """A source and its targets. In a notebook it shows itself: the source beside the targets, or the figure asked for.

    Args:
        model: what made it.
        call: how; `p2p.replay(call)` makes it again, `call.to_json()` writes it down.
        images: of the source, then of the targets.
        states: after each step; row 0 is the source's.
        histories: the maps of each prompt's words, if they were recorded.
        figure: what is shown in the place of the images.
    """

    model: LatentDiffusion
    call: Call
    images: UInt8[np.ndarray, "b H W 3"]
    states: Sequence[State]
    histories: Sequence[MapHistory] = ()
    figure: Image.Image | None = None

    @property
    def source(self) -> Image.Image:
        return Image.fromarray(self.images[0])

    @property
    def targets(self) -> list[Image.Image]:
        return [Image.fromarray(image) for image in self.images[1:]]

    @property
    def image(self) -> Image.Image:
        """What is shown."""
        return self.figure or Image.fromarray(np.concatenate(list(self.images), axis=1))

    @cached_property
    def maps(self) -> list[Maps]:
        """The attention to the words of each prompt, the source's first.

        If the run did not record it, asking for it runs the call once more, with the attention built as tensors; that
        rounds otherwise than the run that made the images, by at most a grey level, so these stay as they are.
        """
        histories = self.histories or edited(self.model, self.call, watched=True).histories
        return [maps_of(history, layout_side(self.model)) for history in histories]

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.image.save(file, format="PNG")
        return file.getvalue()

    def __repr__(self) -> str:
        targets = ", ".join(repr(target.prompt) for target in self.call.targets)
        return f"<edit of {self.call.source!r} to {targets}: source, targets, images, maps, states, call>"


def edited(model: LatentDiffusion, call: Call, watched: bool = False) -> Result:
    """The source and its targets by Prompt-to-Prompt.

    Raises:
        ValueError: something does not fit, or a prompt without words is watched; no step has been made.
    """
    histories = histories_of(model, call) if watched else []
    return sampled(model, call, call.start(model, histories), histories, "Prompt-to-Prompt" if watched else "")


def sampled(
    model: LatentDiffusion, call: Call, run: Iterator[State], histories: list[MapHistory], name: str = ""
) -> Result:
    """What a run of the call's prompts leads to; its maps go to the histories, which it was given as `watch`."""
    visited = call.sampling.times(model.schedule)
    for history in histories:
        run = history.along(run, visited)
    states = with_progress(run, model, call.sampling, name)
    return Result(model, call, model.decode(states[-1].z_t), states, histories)


def with_progress(states: Iterator[State], model: LatentDiffusion, sampling: Sampling, name: str = "") -> list[State]:
    """All states of a run, with a bar on standard error."""
    calls = len(sampling.times(model.schedule)) - 1
    with logging_redirect_tqdm():  # a warning on a line of its own, above the bar
        return list(tqdm(states, name or None, total=calls, unit="step", file=sys.stderr))


def histories_of(model: LatentDiffusion, call: Call) -> list[MapHistory]:
    """To record the maps of every prompt. Raises ValueError for a prompt without words."""
    encode = model.tokenizer.encode
    return [MapHistory(encode(prompt), row=row) for row, prompt in enumerate(prompts_of(call))]


def prompts_of(call: Call) -> list[str]:
    return [call.source, *(target.prompt for target in call.targets)]
