"""The steps as a GIF."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ldm.config import ScheduleConfig
from ldm.schedule import Schedule
from p2p.algorithm import PromptToPrompt
from p2p.edits import Refine, Swap
from p2p.figures.animation import frames, save_gif

CAT, BICYCLE = "a photo of a cat on the grass", "a photo of a bicycle on the grass"


@pytest.fixture
def p2p(tiny):
    return PromptToPrompt(tiny, CAT, (BICYCLE,), (Swap("cat", "bicycle"),))


@pytest.mark.parametrize(("every", "shown"), [(1, 5), (2, 3), (3, 3), (9, 2)])
def test_a_gif_has_a_frame_every_so_many_steps_and_the_last(p2p, tmp_path, every, shown):
    """Of 5 steps: 1-5, or 1, 3, 5, or 1, 4, 5, or 1, 5."""
    path = tmp_path / "steps.gif"
    save_gif(frames(p2p.model, p2p.denoise(3, steps=5), p2p.prompts, every), path, milliseconds=100, hold=900)
    with Image.open(path) as gif:
        assert gif.format == "GIF" and gif.n_frames == shown
        assert gif.size == (512, 304)  # two pictures of 256, under 48 pixels of captions
        assert gif.info["loop"] == 0
        durations = []
        for i in range(shown):
            gif.seek(i)
            durations.append(gif.info["duration"])
    assert durations == [100] * (shown - 1) + [900]
    assert [file.name for file in tmp_path.iterdir()] == ["steps.gif"]


def test_frames_show_the_predicted_z_0_and_at_last_the_picture(p2p):
    first, *_, last = p2p.denoise(3, steps=5)
    shown = list(frames(p2p.model, iter([first, last]), p2p.prompts))
    for frame, latents in zip(shown, (first.prediction.z_0, last.z_t)):
        source, target = (np.asarray(frame)[48:, half] for half in (slice(256), slice(256, None)))
        for half, picture in zip((source, target), p2p.model.decode(latents)):
            assert (half == np.asarray(Image.fromarray(picture).resize((256, 256), Image.Resampling.BICUBIC))).all()
        assert (np.asarray(frame)[:48] < 128).any()  # captions


def test_many_targets_are_in_rows_and_long_prompts_have_room(p2p):
    """Six images are three and three; a prompt of 20 words takes more lines than two short ones."""
    long = "a photo of a big striped red car next to a small blue house on the grass in fog with snowflakes"
    many = replace(p2p, targets=(long,) * 5, edits=(Refine(),) * 5)
    *_, frame = frames(many.model, many.denoise(3, steps=1), many.prompts)
    pixels = np.asarray(frame)
    strip = frame.height // 2 - 256
    assert frame.width == 3 * 256 and strip > 48
    for top in (0, strip + 256):
        captions = pixels[top : top + strip]
        assert (captions < 128).any() and (captions[-2:] == 255).all()  # letters, and white between them and the image
        assert (captions[:, 255::256] == 255).all()  # none runs into the next


def test_what_cannot_be_animated_is_refused(p2p, tmp_path):
    with pytest.raises(ValueError, match="at least 1 step apart, got 0"):
        next(frames(p2p.model, iter([]), p2p.prompts, every=0))
    with pytest.raises(ValueError, match="at least one image"):
        save_gif(iter([]), tmp_path / "steps.gif")


def test_the_last_frame_is_final_if_sampling_ends_at_1(p2p, monkeypatch):
    """Stable Diffusion's end; what is shown before is what the network believes."""
    schedule = Schedule(ScheduleConfig(spacing="leading", offset=1, last=1))
    monkeypatch.setattr(p2p.model, "schedule", schedule)
    states = list(p2p.denoise(3, steps=3))
    shown = []
    monkeypatch.setattr(p2p.model, "decode", lambda z: shown.append(z) or np.zeros((2, 32, 32, 3), dtype=np.uint8))
    list(frames(p2p.model, iter(states), p2p.prompts))
    assert states[-1].t == 1 and shown[-1] is states[-1].z_t and shown[-2] is states[-2].prediction.z_0
