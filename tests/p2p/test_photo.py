"""Images of one's own: files of every kind as viewers show them, or one clear refusal."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from p2p.photo import as_pixels, digest, fitted

GREY = np.full((20, 30), 100, dtype=np.uint8)  # 100 of 255, in every mode
RED = Image.new("RGB", (30, 20), (200, 10, 30))


def through_file(image: Image.Image, tmp_path, ending: str = ".png", **how) -> np.ndarray:
    image.save(tmp_path / f"image{ending}", **how)
    return as_pixels(tmp_path / f"image{ending}")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_a_grey_level_is_the_same_number_in_every_mode(tmp_path, mode):
    deep = mode.startswith("I")
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if deep else Image.fromarray(GREY)
    image = image.convert("RGB") if mode == "CMYK" else image  # PIL converts grey levels to black ink alone
    image = image.convert(mode) if mode != "I;16" else image
    ending = ".tif" if mode in ("CMYK", "I") else ".png"
    assert (through_file(image, tmp_path, ending) == 100).all()


def test_transparent_parts_are_white(tmp_path):
    clear = RED.convert("RGBA")
    clear.putalpha(0)
    assert (through_file(clear, tmp_path) == 255).all()
    half = RED.convert("RGBA")
    half.putalpha(128)
    # 128 of 255 of the colour over white
    expected = np.round((np.array([200, 10, 30]) * 128 + 255 * 127) / 255)
    assert abs(through_file(half, tmp_path)[0, 0] - expected).max() <= 1
    palette = RED.convert("P", palette=Image.Palette.ADAPTIVE)
    assert (through_file(palette, tmp_path, transparency=palette.getpixel((0, 0))) == 255).all()
    palette = RED.convert("P", palette=Image.Palette.ADAPTIVE)
    assert (through_file(palette, tmp_path) == np.array(RED)).all()


def test_a_photo_is_turned_as_its_camera_was(tmp_path):
    """EXIF orientation 6: the camera was turned, and the file's first row is the right side."""
    image = Image.fromarray(np.dstack([np.arange(600).reshape(20, 30) % 256] * 3).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert (through_file(image, tmp_path, exif=exif) == np.rot90(np.array(image), k=-1)).all()


def test_colours_are_converted_to_srgb(tmp_path):
    """A profile that swaps nothing but is not sRGB's changes numbers; a damaged one is ignored, as by viewers."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert abs(through_file(RED, tmp_path, icc_profile=profile).astype(int) - np.array(RED)).max() <= 1
    assert (through_file(RED, tmp_path, icc_profile=b"not a profile") == np.array(RED)).all()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # of another mode
    assert (through_file(RED, tmp_path, icc_profile=lab) == np.array(RED)).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_counts_in_every_mode(tmp_path, mode):
    """sRGB's with the primaries of red and green exchanged: so are the colours, and transparent parts stay white."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = profile.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")
    image = RED.convert(mode) if mode != "P" else RED.convert("P", palette=Image.Palette.ADAPTIVE)
    found = through_file(image, tmp_path, icc_profile=exchanged).astype(int)
    assert abs(found - [10, 200, 30]).max() <= 2  # rounded in the profile's tables
    if mode == "RGBA":
        image.putalpha(0)
        assert (through_file(image, tmp_path, icc_profile=exchanged) == 255).all()
    if mode == "RGB":
        assert (through_file(image, tmp_path, icc_profile=exchanged, transparency=(200, 10, 30)) == 255).all()


def test_a_deep_photo_is_turned_too(tmp_path):
    image = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = through_file(image, tmp_path)
    assert (through_file(image, tmp_path, exif=exif) == np.rot90(upright, k=-1)).all()


def test_of_an_animation_the_first_frame_counts(tmp_path):
    other = Image.new("RGB", RED.size, (0, 0, 255))
    found = through_file(RED, tmp_path, ".gif", save_all=True, append_images=[other])
    assert abs(found.astype(int) - np.array(RED)).max() <= 8  # a palette of 216 colours and their nearest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't be read as an image"),
        (b"hello", "can't be read as an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "can't be read as an image"),
    ],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(ValueError, match=f"image.png.*{message}"):
        as_pixels(tmp_path / "image.png")


def test_a_file_cut_short_is_refused(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, "PNG")
    (tmp_path / "image.png").write_bytes(file.getvalue()[:2000])
    with pytest.raises(ValueError, match="can't be read as an image"):
        as_pixels(tmp_path / "image.png")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    RED.save(tmp_path / "image.png")
    with pytest.raises(ValueError, match="can't be read as an image"):
        as_pixels(tmp_path / "image.png")


def test_numbers_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tmp_path / "image.tif")
    with pytest.raises(ValueError, match="save it with 8 or 16 bits"):
        as_pixels(tmp_path / "image.tif")


def test_another_size_is_cropped_or_padded():
    """A wide image, red in the middle: crop loses the sides, pad keeps them under white bars."""
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60, 0] = 255
    cropped, padded = fitted(wide, 32), fitted(wide, 32, "pad")
    assert cropped.shape == padded.shape == (32, 32, 3)
    assert (cropped[:, 2:-2] == [255, 0, 0]).all()  # at the edges the filter sees what is cut off
    assert (padded[:8] == 255).all() and (padded[-8:] == 255).all()
    assert (padded[12:20, :5] == 0).all() and (padded[12:20, 12:20] == [255, 0, 0]).all()
    same = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    assert (fitted(same, 32) == same).all()
    with pytest.raises(ValueError, match="it must have 16 a side"):
        fitted(same[:8], 32)


def test_the_digest_is_of_pixels_and_shape():
    image = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    assert digest(image) == digest(np.asfortranarray(image)) != digest(image + 1)
    assert digest(image) != digest(image.reshape(5, 20, 3))
