"""How well an image answers an edit, against the rendered truth."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ldm.tokenizer import PromptTokenizer
from ldm.zoo.clip import CLIP

Picture = UInt8[np.ndarray, "H W 3"]

ROUNDING = 1 / 12  # mean squared error of rounding to bytes: equal images count as 58.9 dB, not as infinitely alike
WIDTH, SIGMA = 11, 1.5  # of the window in which structures are compared, in pixels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # keep the quotients finite where an image is dark or flat
FARTHEST = 12  # pixels, down and across
DRAWS = 10_000  # of the bootstrap


class Interval(NamedTuple):
    """A mean over scenes, and the 95% interval in which it would lie for other scenes of the same kinds."""

    mean: float
    low: float
    high: float


def kept(image: Picture, source: Picture, target: Picture) -> float:
    """PSNR in dB against the target where the two renderings agree, so that the edit should change nothing.

    NaN if they agree nowhere, as with fog.
    """
    return psnr_where(image, target, (source == target).all(axis=-1))


def edited(image: Picture, source: Picture, target: Picture) -> float:
    """PSNR in dB against the target where the two renderings differ, so that the edit should change something.

    NaN if they differ nowhere.
    """
    return psnr_where(image, target, (source != target).any(axis=-1))


def psnr_where(image: Picture, target: Picture, where: Bool[np.ndarray, "H W"]) -> float:
    """10 log10(255^2 / mean squared difference) over some pixels, in dB; NaN if there are none."""
    if not where.any():
        return float("nan")
    error = np.square(image[where].astype(float) - target[where]).mean()
    return float(10 * np.log10(255**2 / max(error, ROUNDING)))


def nearest_psnr(image: Picture, candidates: UInt8[np.ndarray, "n H W 3"], where: Bool[np.ndarray, "H W"]) -> float:
    """The PSNR in dB over some pixels against the candidate that is nearest there."""
    return max(psnr_where(image, candidate, where) for candidate in candidates)


def ssim(image: Picture, target: Picture) -> float:
    """Structural similarity of the grey levels (Wang et al. 2004, eq. 13), from -1 to 1 for equal images.

        SSIM = (2 mu_x mu_y + C1) (2 sigma_xy + C2) / ((mu_x^2 + mu_y^2 + C1) (sigma_x^2 + sigma_y^2 + C2))

    of means, variances and the covariance in a Gaussian window around each pixel; then averaged over all pixels whose
    window lies in the image.
    """
    x, y = (torch.from_numpy(np.array(Image.fromarray(p).convert("L"), dtype=np.float64)) for p in (image, target))
    weights = torch.exp(-((torch.arange(WIDTH, dtype=torch.float64) - WIDTH // 2) ** 2) / (2 * SIGMA**2))
    window = (weights / weights.sum()).outer(weights / weights.sum())[None, None]
    mu_x, mu_y, xx, yy, xy = F.conv2d(torch.stack([x, y, x * x, y * y, x * y])[:, None], window)
    alike = (2 * mu_x * mu_y + C1) / (mu_x**2 + mu_y**2 + C1)
    return (alike * (2 * (xy - mu_x * mu_y) + C2) / (xx - mu_x**2 + yy - mu_y**2 + C2)).mean().item()


def nearest(image: Picture, candidates: UInt8[np.ndarray, "n H W 3"]) -> int:
    """The number of the candidate with the least squared error; pixels on which all agree count alike for all."""
    return int(np.square(candidates.astype(float) - image).sum(axis=(1, 2, 3)).argmin())


class ByClip:
    """The small CLIP, as a second judge of which caption is right."""

    def __init__(self, clip: CLIP, tokenizer: PromptTokenizer):
        self.clip, self.tokenizer, self._texts = clip, tokenizer, {}

    @torch.no_grad()
    def nearest(self, image: Picture, captions: tuple[str, ...]) -> int:
        """The number of the caption with the highest CLIP score [C9] of the image."""
        if captions not in self._texts:  # of a scene, for all its edits
            self._texts[captions] = self.clip.embed_text(self.tokenizer.batch(list(captions)))
        return int((self.clip.embed_images(image[None]) @ self._texts[captions].mT).argmax())


def shift(image: Picture, target: Picture, outline: Float[np.ndarray, "H W"]) -> float:
    """How far from its true place an object is, in pixels; of no meaning if it is another object.

    The object is cut out of the target, where the outline covers a pixel by half or more, and placed at all offsets of
    at most 12 pixels down and across: the one with the highest PSNR inside the cut-out counts, the shortest of equals.
    What falls outside the image is not compared.

    The sum of a (image - target)^2 over the cut-out a is, at all offsets at once, a correlation of a with image^2 minus
    one of a target with 2 image, plus the sum of a target^2 where the image is.

    Raises:
        ValueError: the outline covers no pixel by half.
    """
    a = torch.from_numpy(outline >= 0.5).double()
    if not a.any():
        raise ValueError("the outline covers no pixel by half: there is no object to find")
    x, y = (torch.from_numpy(np.array(p, dtype=np.float64)).permute(2, 0, 1) for p in (image, target))
    size = [length + 2 * FARTHEST for length in outline.shape]  # so that nothing comes in again from the other side
    transform = lambda stack: torch.fft.rfft2(stack, s=size)
    seen = transform(torch.cat([-2 * x, x.square().sum(dim=0)[None], torch.ones_like(a)[None]]))
    cut = transform(torch.cat([a * y, a[None], (a * y.square().sum(dim=0))[None]])).conj()
    errors = torch.fft.irfft2((cut[:3] * seen[:3]).sum(dim=0) + cut[3] * seen[3] + cut[4] * seen[4], s=size)
    pixels = torch.fft.irfft2(cut[3] * seen[4], s=size).round()
    reach = range(-FARTHEST, FARTHEST + 1)
    means = {(i, j): (errors[i, j] / pixels[i, j]).item() for i in reach for j in reach if pixels[i, j] > 0}
    least = min(means.values()) + 1e-6  # the transforms are exact to 1e-9 of 255^2
    return min(float(np.hypot(*offset)) for offset, error in means.items() if error <= least)


def interval(values: list[float]) -> Interval:
    """The mean over scenes, with the percentile bootstrap's 95% interval. NaN stands for a scene that has no value.

    Of a difference between two methods, give the differences scene by scene: their interval is narrower than that of
    either method.

    Raises:
        ValueError: no scene has a value.
    """
    x = np.array(values, dtype=float)
    x = x[~np.isnan(x)]
    if not len(x):
        raise ValueError("no scene has a value: the mean needs one at least")
    means = x[np.random.default_rng(0).integers(len(x), size=(DRAWS, len(x)))].mean(axis=1)
    return Interval(float(x.mean()), *np.percentile(means, (2.5, 97.5)).tolist())


def iou(attention: Float[Tensor, "h w"], outline: Float[np.ndarray, "H W"], threshold: float = 0.3) -> float:
    """Intersection over union of a word's region and its object's, at the size of the image, from 0 to 1.

    The word's region is where its map, resized, exceeds this fraction of its maximum, as in local blend. The object's
    is where the outline covers a pixel by half or more.

    Raises:
        ValueError: both regions are empty.
    """
    resized = F.interpolate(attention[None, None].float(), outline.shape, mode="bilinear")[0, 0].numpy()
    word, thing = resized > threshold * resized.max(), outline >= 0.5
    if not (word | thing).any():
        raise ValueError("neither the map nor the outline has a region: there is nothing to compare")
    return float((word & thing).sum() / (word | thing).sum())
