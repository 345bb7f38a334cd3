"""The sticker art: Fluent Emoji in the 3D style (MIT, Microsoft), as packaged on the npm registry.

Needed only for training and for rendering scenes, not for using a model. The npm client downloads the package once into
the user's cache; it is checked against its published digest, and read without unpacking.
"""

import base64
import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ldm.helpers.files import save_atomically
from weights.training.world import NOUNS

PACKAGE, ARCHIVE = "@lobehub/fluent-emoji-3d@1.1.0", "fluent-emoji-3d-1.1.0.tgz"
SHA512 = "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g=="


def cache_dir() -> Path:
    """The folder of art and rendered scenes: `$STICKERS_CACHE`, else `stickers` in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("STICKERS_CACHE", base / "stickers"))


class Art:
    """The stickers of all nouns, held in memory."""

    def __init__(self, archive: Path):
        """Read the stickers from the npm package.

        Raises:
            ValueError: the file's digest is not the published one.
        """
        data = archive.read_bytes()
        if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
            raise ValueError(f"{archive} is not {PACKAGE}: its digest differs. Delete it and run again.")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            self._stickers = {
                noun: self._read(tar.extractfile(f"package/assets/{code}.webp").read()) for noun, code in NOUNS.items()
            }

    @staticmethod
    def _read(data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data)).convert("RGBA")
        return image.crop(image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())

    def sticker(self, noun: str) -> Image.Image:
        """The sticker of a noun, cropped to its visible part; RGBA, at most 256 pixels a side."""
        return self._stickers[noun]


class SmallArt(Art):
    """The same stickers from a file that `save_small` wrote: fine enough to render scenes, without a download."""

    def __init__(self, file: Path):
        with np.load(file, allow_pickle=False) as stickers:
            self._stickers = {noun: Image.fromarray(stickers[noun]) for noun in NOUNS}


def save_small(art: Art, file: Path, side: int) -> None:
    """Write the stickers, at most `side` pixels a side, to an .npz file."""
    small = {noun: art.sticker(noun).copy() for noun in NOUNS}
    for image in small.values():
        image.thumbnail((side, side), Image.Resampling.BOX)

    def write(part: Path) -> None:
        with part.open("wb") as opened:  # numpy appends .npz to other names
            np.savez_compressed(opened, **{noun: np.asarray(image) for noun, image in small.items()})

    save_atomically(write, file)


def load_art() -> Art:
    """Load the art, which is downloaded on first use.

    Raises:
        OSError: npm is missing or could not download the package.
    """
    archive = cache_dir() / ARCHIVE
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            try:
                subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, capture_output=True, text=True)
            except FileNotFoundError:
                raise OSError("npm is needed to fetch the stickers' art; install Node.js") from None
            except subprocess.CalledProcessError as e:
                raise OSError(f"npm could not fetch {PACKAGE}:\n{e.stderr.strip()}") from None
            next(Path(folder).glob("*.tgz")).replace(archive)
    return Art(archive)
