"""How well images are restored: `python -m p2p.experiments.restoration` writes `docs/restoration.md` and its figure.

Held-out scenes are degraded in four ways and restored by their captions, and beside that by simpler methods; then grey
scenes are coloured by captions of another colour. (The scenes are drawn with art that npm fetches once.)
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.experiments.restoration"))

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ldm.helpers.files import check_writable, save_atomically
from ldm.helpers.images import to_bytes, to_tensor
from ldm.helpers.likeness import psnr
from ldm.pipeline import LatentDiffusion
from ldm.restoration import Degradation, cropped, grey, masked, pooled, project, restoring
from p2p.cli.options import Restore
from p2p.experiments.baselines import inpaint
from p2p.figures import sheets
from p2p.masks import Box, box_pixels, share
from weights.load import load
from weights.training.art import Art, load_art
from weights.training.data import held_out_scenes
from weights.training.judge import read
from weights.training.render import SIZE, render
from weights.training.world import COLOURS, NOUNS, PLACES, Scene, Thing, caption

PAGE, FIGURE = Path("docs/restoration.md"), Path("docs/restoration.png")
SCENES, STEERED, BATCH = 40, 20, 10
HOLE, KEPT = Box(40, 48, 88, 96), Box(0, 0, 88, SIZE)
FACTOR = 4
Images = UInt8[np.ndarray, "b H W 3"]


class Trial(NamedTuple):
    """A task, and a simpler method for it: (model, y, captions, seeds) -> images."""

    name: str
    degradation: Degradation
    baseline: str
    simpler: Callable[[LatentDiffusion, Float[Tensor, "b ..."], list[str], list[int]], Float[Tensor, "b 3 H W"]]
    share: float = 1.0  # of y that is given: of a mask, what is outside


def blended(lost: Bool[Tensor, "H W"], fill: Callable[[Tensor], Tensor]) -> Callable:
    """Latents blended by a mask [P2], of the given image with its lost pixels filled."""

    def simpler(model: LatentDiffusion, y: Tensor, captions: list[str], seeds: list[int]) -> Tensor:
        made, mask = [], share(lost.double(), model.latent_shape[1:]) > 0
        how = dict(steps=Restore.steps * Restore.visits, guidance=Restore.guidance)
        for one, prompt, seed in zip(y, captions, seeds):
            z_0 = model.autoencoder.encode(fill(one[None]))
            *_, last = inpaint(model, [prompt], z_0, mask, seed, **how)
            made.append(model.autoencoder.decode(last.z_t))
        return torch.cat(made)

    return simpler


def enlarged(model: LatentDiffusion, y: Tensor, captions: list[str], seeds: list[int]) -> Tensor:
    """Bicubic interpolation."""
    small = [Image.fromarray(image) for image in to_bytes(y)]
    size = (FACTOR * y.shape[3], FACTOR * y.shape[2])
    return to_tensor(np.stack([np.asarray(image.resize(size, Image.Resampling.BICUBIC)) for image in small]))


def trials() -> list[Trial]:
    hole, box = (box_pixels(box, (SIZE, SIZE)) for box in (HOLE, KEPT))
    crop = cropped(KEPT, (SIZE, SIZE))
    beyond = (0, SIZE - KEPT.right, 0, 0)
    repeated = lambda y: torch.nn.functional.pad(y, beyond, mode="replicate")
    return [
        Trial(
            "inpainting",
            masked(hole > 0),
            "latents blended by the mask",
            blended(hole > 0, lambda y: y),
            1 - float(hole.mean()),
        ),
        Trial("uncropping", crop, "latents blended by the mask", blended(box == 0, repeated)),
        Trial("colourisation", grey(), "left grey", lambda model, y, *_: y.expand(-1, 3, -1, -1)),
        Trial(f"super-resolution, {FACTOR}x", pooled(FACTOR), "bicubic", enlarged),
    ]


def consistency(trial: Trial, images: Images, y: Float[Tensor, "b ..."]) -> list[float]:
    """PSNR of A x against y, of each image: of what is given alone."""
    error = (trial.degradation.A(to_tensor(images)) - y).double().square().flatten(1).mean(dim=1) / trial.share
    return [10 * float(torch.log10(4 / e)) for e in error.clamp(min=4e-10)]  # at most 100 dB


@torch.no_grad()
def restored(
    model: LatentDiffusion, degradation: Degradation, y: Float[Tensor, "b ..."], captions: list[str], seeds: list[int]
) -> tuple[Float[Tensor, "b 3 H W"], Float[Tensor, "b 3 H W"]]:
    """The images decoded, and projected once more in pixels; at the defaults of `p2p.restore`."""
    sampler = restoring(model.autoencoder, y, degradation, Restore.eta, Restore.length, Restore.visits)
    how = {name: getattr(Restore, name) for name in ("steps", "guidance")}
    *_, last = model.denoise(model.encode_prompts(captions), seeds, sampler=sampler, **how)
    decoded = model.autoencoder.decode(last.z_t)
    return decoded, project(decoded, y, degradation)


class Measured(NamedTuple):
    """Of one task, each for every scene, in dB: consistency with what is given, and PSNR to the truth."""

    consistent_ceiling: list[float]  # of the truth through the autoencoder
    consistent: list[float]
    consistent_projected: list[float]
    decoded: list[float]
    projected: list[float]
    simpler: list[float]
    simpler_projected: list[float]


@torch.no_grad()
def measured(
    model: LatentDiffusion, trial: Trial, truth: Images, encoded: Images, captions: list[str], bar: tqdm
) -> tuple[Measured, list[Images]]:
    """The numbers of a task, and its images of the first scene: given, restored, by the simpler method."""
    found, shown = Measured(*([] for _ in Measured._fields)), []
    for i in range(0, len(truth), BATCH):
        seeds, part = list(range(i, min(i + BATCH, len(truth)))), truth[i : i + BATCH]
        y = trial.degradation.A(to_tensor(part))
        decoded, projected = restored(model, trial.degradation, y, captions[i : i + BATCH], seeds)
        simpler = trial.simpler(model, y, captions[i : i + BATCH], seeds)
        images = [to_bytes(x) for x in (decoded, projected, simpler, project(simpler, y, trial.degradation))]
        found.consistent_ceiling.extend(consistency(trial, encoded[i : i + BATCH], y))
        found.consistent.extend(consistency(trial, images[0], y))
        found.consistent_projected.extend(consistency(trial, images[1], y))
        for numbers, made in zip(found[3:], images):
            numbers.extend(psnr(image, true) for image, true in zip(made, part))
        shown = shown or [to_bytes(trial.degradation.A_plus(y))[0], images[1][0], images[3][0]]
        bar.update(len(part))
    return found, shown


def of_coloured(found: Measured, scenes: list[Scene]) -> Measured:
    """The numbers of the scenes that have colours: pencil drawings are grey."""
    return Measured(*([n for n, scene in zip(of, scenes) if scene.style != "pencil drawing"] for of in found))


def table(results: dict[str, Measured], names: dict[str, str]) -> str:
    """In Markdown, the means in dB."""
    lines = [
        "| task | scenes | given: autoencoder | given: decoded | given: projected | decoded | **projected** "
        "| simpler method | the same, projected | better in |",
        "|---" * 10 + "|",
    ]
    for name, found in results.items():
        means = [f"{np.mean(numbers):.1f}" for numbers in found]
        better = sum(ours > theirs for ours, theirs in zip(found.projected, found.simpler_projected))
        means[4], means[5] = f"**{means[4]}**", f"{means[5]} ({names[name]})"
        lines.append(f"| {name} | {len(found.decoded)} | {' | '.join(means)} | {better} |")
    return "\n".join(lines)


def steered_scenes() -> list[tuple[Scene, Scene]]:
    """Photos of one thing in one colour, and the same in another."""
    rng, pairs = np.random.default_rng(0), []
    for seed in range(STEERED):
        colours = rng.choice(list(COLOURS), 2, replace=False)
        noun, place = rng.choice(list(NOUNS)), rng.choice(PLACES)
        pairs.append(tuple(Scene((Thing(str(noun), str(c)),), str(place), seed=10**9 + seed) for c in colours))
    return pairs


def steering(model: LatentDiffusion, art: Art, bar: tqdm) -> dict[str, int]:
    """How many things are read in the colour that is asked for: the one they had, and the other."""
    counts = {"had": 0, "other": 0}
    for i in range(0, STEERED, BATCH):
        pairs = steered_scenes()[i : i + BATCH]
        y = grey().A(to_tensor(np.stack([render(had, art) for had, _ in pairs])))
        for name, asked in zip(counts, zip(*pairs)):
            _, x = restored(model, grey(), y, [caption(scene) for scene in asked], list(range(i, i + len(pairs))))
            for image, scene in zip(to_bytes(x), asked):
                reading = read(image, art, (scene,))
                counts[name] += reading.find(scene.things[0]) is not None
            bar.update(len(pairs))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for path in (PAGE, FIGURE):
        check_writable(path)
    model, art = load("stickers", device="cpu"), load_art()
    scenes = held_out_scenes(SCENES)
    truth, captions = np.stack([render(scene, art) for scene in scenes]), [caption(scene) for scene in scenes]
    encoded = model.decode(torch.cat([model.autoencoder.encode(x[None]) for x in to_tensor(truth)]))
    ceiling = np.mean([psnr(*pair) for pair in zip(encoded, truth)])
    results, rows, names = {}, [], {}
    with tqdm(total=4 * SCENES + 2 * STEERED, unit="scene", file=sys.stderr) as bar:
        for trial in trials():
            results[trial.name], images = measured(model, trial, truth, encoded, captions, bar)
            names[trial.name] = trial.baseline
            rows.append(list(zip((trial.name, "restored", trial.baseline, "the truth"), [*images, truth[0]])))
        results["colourisation"] = of_coloured(results["colourisation"], scenes)
        counts = steering(model, art, bar)
    how = {name: getattr(Restore, name) for name in ("steps", "visits", "guidance", "eta")}
    figure = sheets.as_image(sheets.grid(rows, captions[0], side=1.6))
    text = TEXT.format(
        table=table(results, names),
        ceiling=ceiling,
        steered=STEERED,
        prompt=captions[0],
        **counts,
        **how,
    )
    save_atomically(lambda part: figure.save(part, format="PNG"), FIGURE)
    save_atomically(lambda part: part.write_text(text, encoding="utf-8"), PAGE)
    print(PAGE, FIGURE, sep="\n")


TEXT = """\
# Restoration by one formula

Inpainting, uncropping, colourisation and super-resolution by the included model, without training, by
[`ldm/restoration.py`](../ldm/restoration.py) (DDNM, [arXiv 2212.00490](https://arxiv.org/abs/2212.00490)). Of an
unknown image x only y = A x is given; the four tasks are four pairs (A, A^+) with A A^+ A = A. At every step the
predicted z_0 is decoded, corrected by

    x_0 <- A^+ y + (I - A^+ A) x_0

and encoded again: the first part is what y determines, the second what it leaves open. z_0 moves by the difference of
two codes, E(corrected x_0) - E(x_0), because E(D(z_0)) is not quite z_0.

```
.venv/bin/p2p restore --task inpaint --mask mask.png --image photo.png --prompt "a photo of a red car" -o out.png
.venv/bin/p2p restore --task uncrop --box 0,0,88,128 --image left.png --prompt "a photo of a cat" -o out.png
.venv/bin/p2p restore --task colour --image grey.png --prompt "a photo of a blue car" -o out.png
.venv/bin/p2p restore --task super --factor 4 --image small.png --prompt "a photo of a panda" -o out.png
```

The file is what is given: for `inpaint` and `colour` of the model's size (128x128 for the included model), for `uncrop`
of the size of its box, for `super` of a quarter of the model's. The mask is white where to paint. In Python,
`p2p.restore("colour", "grey.png", "a photo of a blue car")` returns `restored`, `decoded` (before the last correction,
in pixels) and `degraded`. The formula is a sampler, and combines with the rest:
`model.denoise(context, seeds, sampler=restoring(model.autoencoder, y, degradation))`, from `ldm.restoration`.

![For each of the four tasks: what is given, the restored image, the image of a simpler method, and the
truth](restoration.png)

The first held-out scene, {prompt!r}. `python -m p2p.experiments.restoration` makes this page.

## Measured

Rendered scenes that training never saw, each restored by its caption; means in dB. Inpainting fills a hole of
48x48 pixels, uncropping adds 40 columns at the right. Pencil drawings, which are grey, are left out of colourisation.

{table}

- *given*: how well A of an image agrees with y, of the truth through the autoencoder, of the restored image as it is
  decoded, and after the last correction, in pixels (100 stands for equal).
- *decoded*, **projected**: PSNR of the restored image to the truth, before and after that correction.
- *simpler method*: latents blended by the mask, with as many network calls and the same guidance; the grey image;
  bicubic interpolation. *Better in* counts the scenes in which **projected** beats it after the same correction.

The truth through the autoencoder has {ceiling:.1f} dB.

A prompt steers what y leaves open. {steered} photos of a thing in one colour are made grey, and coloured by a caption
that names the colour it had, or another. [`judge.py`](../weights/training/judge.py), which tells all nouns and colours
apart, finds the thing in the colour that was asked for in {had} and {other} of {steered}. Grey levels stay as they are:
a dark thing does not turn yellow.

The defaults ({steps} steps, each taken {visits} times, guidance {guidance:g}, eta {eta:g}) were chosen on eight other
scenes. There 40 steps taken once, which cost as much, with eta 0.85 gave 24.3 dB (inpainting), 26.8 (uncropping) and
27.2 (colourisation), against 25.9, 27.6 and 28.9.

## A model that was trained to enlarge

The formula asks nothing of the model. The latent diffusion paper trains one for the task instead (section 4.4): the
small image has the height and width of the latents, and the UNet gets both at every step, as three channels of z_t and
three of the image, eps_theta([z_t, y], t). The decoder then makes 4 times as many pixels a side. Given such a model,
`--task super` uses it in the place of the formula, without a prompt:

```
.venv/bin/p2p restore --task super --model ldm-super-resolution-4x --steps 100 --image small.png -o out.png
```

Both sides are multiples of 8, up to 512. In Python, `p2p.restore("super", "small.png", model=...)`, or
`model.denoise(context, seeds, condition=y)`. No model of this kind is included: the command downloads
[public weights](public-weights.md), 0.7 GB. On random weights it equals diffusers' pipeline; how well the public ones
enlarge is not measured here. They were trained on photos that were also blurred, noisy and compressed, so what they
make need not average to what was given.
"""
