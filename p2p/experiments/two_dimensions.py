"""Diffusion in two dimensions, without a network: `python -m p2p.experiments.two_dimensions`.

Writes out/plane.png. Latents are points in the plane and the denoiser is the optimal one for a known distribution, so
the paths show the formulas alone: ancestral and deterministic sampling, guidance, and Prompt-to-Prompt's tau.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.experiments.two_dimensions"))

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ldm.config import ScheduleConfig
from ldm.equations.ideal_denoiser import IdealDenoiser, Mixture, data_set
from ldm.helpers.files import check_writable, save_atomically
from ldm.samplers import DDIM, SAMPLERS, Sampler
from ldm.schedule import Prediction, Schedule, guided
from p2p.alpha import Time, switch_time
from p2p.figures import sheets

SCHEDULE = Schedule(ScheduleConfig())
STEPS, SEED, PATHS = 100, 0, 18
OUTPUT = Path("out/plane.png")
COLOURS = sheets.COLOURS[:3]  # of the modes, by index
# two data sets of three images each; the second has each of them rotated by a third of a turn
ANGLES = torch.tensor([0.5, 7 / 6, 11 / 6], dtype=torch.float64) * torch.pi
SOURCE = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
TARGET = 1.6 * SOURCE.roll(-1, dims=0)

Paths = Float[Tensor, "s n 2"]  # of n latents, at the visited times


def walk(predict: Callable[[Tensor, int], Prediction], z_T: Float[Tensor, "n 2 1 1"], sampler: Sampler = DDIM) -> Paths:
    """Sample from z_T to z_0, and return the latents along the way.

    Args:
        predict: (z_t, t) -> the denoiser's prediction.
        z_T: the starting points.
        sampler: a one-step sampler.
    """
    z, path, generator = z_T, [z_T], torch.Generator().manual_seed(SEED)
    for t, t_prev in pairwise(sampler.visit(SCHEDULE, STEPS, None)):
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype)
        z = sampler.step(SCHEDULE, z, predict(z, t), t, t_prev, noise)
        path.append(z)
    return torch.stack(path).flatten(2)


def edited(source: IdealDenoiser, target: IdealDenoiser, z_T: Float[Tensor, "n 2 1 1"], tau: Time) -> Paths:
    """Prompt-to-Prompt without a network: the target's latents from z_T to z_0, with the source's attention over its
    data instead of their own [P4] while t >= tau.

    Args:
        source, target: with equally many data points, over which the attention is a distribution.
        z_T: the starting points of both.
        tau: as in `Alpha`.

    Raises:
        ValueError: tau is out of range.
    """
    switch, walked = switch_time(tau, SCHEDULE.T), iter(walk(source.predict, z_T))

    def predict(z_star: Tensor, t: int) -> Prediction:
        z = next(walked).view_as(z_star)
        return target.predict(z_star, t, source.attention(z, t) if t >= switch else None)

    return walk(predict, z_T)


def nearest(z_0: Float[Tensor, "n 2"], data: Float[Tensor, "k 2"]) -> list[int]:
    """The index of the data point nearest to each latent."""
    return torch.cdist(z_0, data).argmin(dim=1).tolist()


def _draw(axis: Axes, path: Paths, modes: list[int]) -> None:
    for line, mode in zip(path.unbind(1), modes):
        axis.plot(*line.T.tolist(), color=COLOURS[mode], linewidth=0.7, alpha=0.7)
        axis.plot(*line[0].tolist(), ".", color="#888888", markersize=3)
        axis.plot(*line[-1].tolist(), ".", color=COLOURS[mode], markersize=6)


def _mark(axis: Axes, data: Float[Tensor, "k 2"], marker: str) -> None:
    """Draw the data points, each in its colour and with its index."""
    for k, (x, y) in enumerate(data.tolist()):
        axis.plot(x, y, marker, color=COLOURS[k], markersize=15, fillstyle="none", markeredgewidth=1.2)
        white = dict(facecolor="white", edgecolor="none", pad=0.5)
        axis.annotate(str(k + 1), (x, y), (x + 0.42, y + 0.1), color=COLOURS[k], fontsize=10, bbox=white, zorder=3)


def figure() -> Figure:
    """Draw six panels: two samplers, guidance, and one edit for three tau."""
    z_T = torch.randn(PATHS, 2, 1, 1, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    source, target = (IdealDenoiser(SCHEDULE, data_set(data)) for data in (SOURCE, TARGET))
    figure = sheets.new_figure(11.0, 7.6)
    axes = figure.subplots(2, 3)
    for axis in axes.flat:
        axis.set(xlim=(-3.8, 3.8), ylim=(-2.9, 4.2), xticks=[], yticks=[], aspect="equal")
        _mark(axis, SOURCE, "o")

    for axis, name, text in (
        (axes[0, 0], "ddpm", "DDPM: new noise at every step [D16]"),
        (axes[0, 1], "ddim", "DDIM: z_0 is a function of z_T [D17]"),
    ):
        path = walk(source.predict, z_T, SAMPLERS[name])[:, :6]
        _draw(axis, path, nearest(path[-1], SOURCE))
        axis.set_title(f"{text},\nfrom six z_T (grey), both panels the same", fontsize=10, color=sheets.INK)

    # a prompt: the first image, with some spread
    spread = 0.15 * torch.eye(2, dtype=torch.float64)
    cloud = lambda means: Mixture(torch.ones(len(means)).double() / len(means), means, spread.expand(len(means), 2, 2))
    every, prompted = (IdealDenoiser(SCHEDULE, cloud(means)) for means in (SOURCE, SOURCE[:1]))
    for w, colour in ((0.0, "#bbbbbb"), (1.0, COLOURS[0]), (3.0, "#0a2f4d")):

        def predict(z: Tensor, t: int, w: float = w) -> Prediction:
            eps = guided(every.predict(z, t).eps, prompted.predict(z, t).eps, w)
            return SCHEDULE.predict(z, eps, t)

        ends = walk(predict, z_T)[-1]
        axes[0, 2].plot(*ends.T.tolist(), ".", color=colour, markersize=7, label=f"w = {w:g}")
    axes[0, 2].legend(fontsize=8, loc="lower center", ncols=3, frameon=False)
    axes[0, 2].set_title(
        "Guidance [D18], the prompt is image 1:\nw = 0 ignores it, w = 3 overdoes it", fontsize=10, color=sheets.INK
    )

    wanted = nearest(walk(source.predict, z_T)[-1], SOURCE)
    for axis, tau in zip(axes[1], ("never", 0.4, 0.1)):
        _mark(axis, TARGET, "s")
        path = edited(source, target, z_T, tau)
        _draw(axis, path, wanted)
        kept = sum(found == mode for found, mode in zip(nearest(path[-1], TARGET), wanted))
        when = "never [P1]" if tau == "never" else f"while t ≥ {tau:g} T [P4]"
        axis.set_title(
            f"source's attention {when}\n{kept} of {PATHS} end in their own colour", fontsize=10, color=sheets.INK
        )
    figure.suptitle(
        "Paths of the ideal denoiser from z_T to z_0. Below, circles are the source's images, squares the target's;\n"
        "a path's colour is the image that the source ends in from the same z_T",
        fontsize=12,
        color=sheets.INK,
    )
    return figure


def main() -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    check_writable(OUTPUT)
    save_atomically(lambda part: sheets.as_image(figure(), dpi=100).save(part, format="PNG"), OUTPUT)
    print(f"look at {OUTPUT}")
