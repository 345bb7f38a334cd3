"""Masks, by hand: from boxes and from picture files of every mode."""

import numpy as np
import pytest
import torch
from PIL import Image

from p2p.masks import Box, box_mask, read_mask

SIZE, FACTOR = (2, 3), 4  # a latent of 2 x 3 positions, a picture of 8 x 12 pixels


def truth(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(0, 0, 12, 8), ("###", "###")),
        (Box(4, 0, 8, 4), (".#.", "...")),
        # half of a position is in, a column of pixels less is out
        (Box(2, 0, 12, 4), ("###", "...")),
        (Box(3, 0, 12, 4), (".##", "...")),
        # a quarter is out, though it is half of each side
        (Box(2, 2, 8, 8), (".#.", "##.")),
    ],
)
def test_a_box_holds_the_positions_that_lie_in_it_by_half(box, expected):
    assert torch.equal(box_mask(box, SIZE, FACTOR), truth(*expected))


@pytest.mark.parametrize("box", [Box(4, 0, 4, 4), Box(-1, 0, 4, 4), Box(0, 0, 13, 4), Box(0, 4, 4, 2)])
def test_a_box_that_is_empty_or_outside_is_refused(box):
    with pytest.raises(ValueError, match=r"left < right must lie in 0..12 and top < bottom in 0..8"):
        box_mask(box, SIZE, FACTOR)


def test_a_box_too_small_for_any_position_is_refused():
    with pytest.raises(ValueError, match=r"the box \(0, 0, 2, 2\) lets nothing change"):
        box_mask(Box(0, 0, 2, 2), SIZE, FACTOR)


def drawing() -> np.ndarray:
    """The positions .#. / #.. white, and half of the pixels of the last one: 8 x 12, 0 or 255."""
    pixels = np.zeros((8, 12), dtype=np.uint8)
    pixels[:4, 4:8] = pixels[4:, :4] = pixels[4:6, 8:] = 255
    return pixels


def saved(tmp_path, image: Image.Image):
    image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_file_of_any_mode_is_averaged_over_each_position(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(drawing().astype(np.uint16) * 257)
    else:
        image = Image.fromarray(drawing()).convert(mode)
    path = saved(tmp_path, image)
    with Image.open(path) as file:
        assert file.mode == mode
    assert torch.equal(read_mask(path, SIZE, FACTOR), truth(".#.", "#.#"))


def test_sixteen_bits_of_grey_are_scaled_and_not_cut(tmp_path):
    """A little less than half of 65535, far above 255, is dark."""
    grey = np.full((2, 3), 32767, dtype=np.uint16)
    grey[0, 1] = 32768
    assert torch.equal(read_mask(saved(tmp_path, Image.fromarray(grey)), SIZE, FACTOR), truth(".#.", "..."))


def test_transparent_pixels_stay(tmp_path):
    """White paint on nothing; where nothing is, the file's colour is white too."""
    pixels = np.full((8, 12, 4), 255, dtype=np.uint8)
    pixels[..., 3] = drawing()
    assert torch.equal(read_mask(saved(tmp_path, Image.fromarray(pixels)), SIZE, FACTOR), truth(".#.", "#.#"))


def test_a_file_of_the_latents_size_is_taken_as_it_is(tmp_path):
    pixels = np.array([[127, 128, 0], [255, 0, 0]], dtype=np.uint8)
    assert torch.equal(read_mask(saved(tmp_path, Image.fromarray(pixels)), SIZE, FACTOR), truth(".#.", "#.."))


@pytest.mark.parametrize("size", [(8, 8), (12, 8), (24, 16), (4, 6)])
def test_a_file_of_another_size_is_told_both_sizes(tmp_path, size):
    path = saved(tmp_path, Image.new("L", size[::-1], 255))
    message = f"is {size[1]}x{size[0]} pixels; it must have the image's size, 12x8, or the latent's, 3x2"
    with pytest.raises(ValueError, match=message):
        read_mask(path, SIZE, FACTOR)


def test_a_file_that_is_missing_or_no_picture_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("white")
    for name in ("missing.png", "text.png"):
        with pytest.raises(ValueError, match=f"the mask '.*{name}' can't be read as an image"):
            read_mask(tmp_path / name, SIZE, FACTOR)


@pytest.mark.filterwarnings("default")  # as it is for users: of PIL's two limits the lower one only warns
@pytest.mark.parametrize("limit", [90, 40])
def test_a_file_of_too_many_pixels_is_refused(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"the mask .* can't be read as an image: .* decompression bomb"):
        read_mask(saved(tmp_path, Image.new("L", (12, 8), 255)), SIZE, FACTOR)


def test_a_damaged_file_is_refused(tmp_path):
    path = saved(tmp_path, Image.effect_noise((12, 8), 100))
    for end in range(1, len(path.read_bytes()) - 24):  # without the last bytes of its pixels, which the end follows
        damaged = tmp_path / "damaged.png"
        damaged.write_bytes(path.read_bytes()[:end])
        with pytest.raises(ValueError, match=r"the mask .*damaged\.png' can't be read as an image"):
            read_mask(damaged, SIZE, FACTOR)


def test_a_black_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lets nothing change"):
        read_mask(saved(tmp_path, Image.new("RGB", (12, 8))), SIZE, FACTOR)
