"""An animation of the sampling: the predicted z_0 at each step, source beside targets."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ldm.helpers.files import save_atomically
from ldm.pipeline import LatentDiffusion
from ldm.states import State
from p2p.figures.fonts import own_font, wrap
from p2p.figures.sheets import INK, broken

SIDE = 256  # pixels to which smaller images are enlarged, so that captions are legible
SIZE, LINE = 11.0, 15  # pixels: font size and line height of the captions
ACROSS = 4  # images in a row


def frames(
    model: LatentDiffusion, states: Iterator[State], prompts: Sequence[str], every: int = 1
) -> Iterator[Image.Image]:
    """Yield a frame every `every` steps, and for the last step: the predicted z_0 of each row of the batch, side by
    side, under its prompt and the timestep reached. The last frame is the final image.

    Args:
        model: the sampled model.
        states: of the run, each decoded as it arrives.
        prompts: of the rows.
        every: the number of steps between frames.

    Raises:
        ValueError: `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"frames must be at least 1 step apart, got {every}")
    for i, state in enumerate(states):
        if state.t <= model.schedule.config.last:  # the final latents, including any blend
            yield _frame(model.decode(state.z_t), prompts, state.t)
        elif i % every == 0:
            yield _frame(model.decode(state.prediction.z_0), prompts, state.t)


def _frame(images: UInt8[np.ndarray, "b H W 3"], prompts: Sequence[str], t: int) -> Image.Image:
    side = max(SIDE, images.shape[2])
    height = round(side * images.shape[1] / images.shape[2])
    roles = ["source", *["target"] * (len(prompts) - 1)]
    width = (side - 8) / 72  # in inches of 72 points, as for `wrap`
    captions = [wrap(f"{role}, t = {t}\n{prompt}", width, SIZE) for role, prompt in zip(roles, prompts)]
    strip = LINE * max(3, *(caption.count("\n") + 1 for caption in captions)) + 3
    rows = broken(list(zip(captions, images)), ACROSS)
    frame = Image.new("RGB", (side * len(rows[0]), (strip + height) * len(rows)), "white")
    draw = ImageDraw.Draw(frame)
    font = ImageFont.truetype(own_font(), SIZE)
    for i, row in enumerate(rows):
        for j, (caption, image) in enumerate(row):
            left, top = j * side, i * (strip + height)
            draw.multiline_text((left + 4, top + 3), caption, INK, font, spacing=2)
            tile = Image.fromarray(image).resize((side, height), Image.Resampling.BICUBIC)
            frame.paste(tile, (left, top + strip))
    return frame


def save_gif(images: Iterator[Image.Image], path: Path, milliseconds: int = 150, hold: int = 2000) -> None:
    """Write a looping GIF, with this many milliseconds per image and `hold` for the last; whole or not at all.

    Raises:
        ValueError: there are no images.
    """
    shown = list(images)
    if not shown:
        raise ValueError("an animation needs at least one image")
    times = [milliseconds] * (len(shown) - 1) + [hold]
    save_atomically(
        lambda part: shown[0].save(
            part, format="GIF", save_all=True, append_images=shown[1:], duration=times, loop=0, disposal=1
        ),
        path,
    )
