"""Exercises of lesson 10: Stable Diffusion's sizes, times, scale and names."""

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(10)

attention_parameters = Exercise(
    "attention_parameters",
    lambda channels, context: channels * (channels + context + context + channels + 1),
    [(2, 3), (320, 768), (64, 160)],
    [
        (
            lambda channels, context: 2 * channels**2 + 2 * channels * context,
            "W_O has a bias, of one number per channel.",
        ),
        (
            lambda channels, context: 2 * channels**2 + 2 * channels * context + 4 * channels,
            "only W_O has a bias; W_Q, W_K and W_V have none.",
        ),
        (
            lambda channels, context: channels**2 + 3 * channels * context + channels,
            "W_Q reads the latent, not the prompt: it is c x c, and only W_K and W_V are c x e.",
        ),
        (
            lambda channels, context: channels**2 + 2 * channels * context,
            "W_O is missing, which mixes the heads: c x c, and a bias.",
        ),
        (
            lambda channels, context: 4 * channels**2 + channels,
            "this is self-attention; keys and values come from tokens of width e, so W_K and W_V are c x e.",
        ),
    ],
)

map_bytes = Exercise(
    "map_bytes",
    lambda height, width, tokens, heads, rows: 4 * rows * heads * height * width * tokens,
    [(64, 64, 77, 8, 1), (16, 16, 256, 8, 4), (8, 16, 32, 2, 2)],
    [
        (
            lambda height, width, tokens, heads, rows: rows * heads * height * width * tokens,
            "this is the number of entries; each takes 4 bytes in float32.",
        ),
        (
            lambda height, width, tokens, heads, rows: 4 * rows * height * width * tokens,
            "each head has a map of its own.",
        ),
        (
            lambda height, width, tokens, heads, rows: 4 * heads * height * width * tokens,
            "each row of the batch has its own maps: multiply by rows.",
        ),
        (
            lambda height, width, tokens, heads, rows: 4 * rows * heads * height * tokens,
            "a map has a row for each position, and there are height times width positions.",
        ),
        (
            lambda height, width, tokens, heads, rows: 4 * rows * heads * (height * width) ** 2,
            "this is self-attention's map; here it has a column for each of the tokens.",
        ),
    ],
)

leading = Exercise(
    "leading",
    lambda T, steps, offset: list(range(offset + 1, offset + 1 + steps * (T // steps), T // steps))[::-1],
    [(1000, 50, 1), (1000, 30, 0), (100, 7, 1)],
    [
        (
            lambda T, steps, offset: [T // steps * i + offset + 1 for i in range(steps)],
            "sampling runs from the largest t down: yours rises.",
        ),
        (
            lambda T, steps, offset: [T // steps * i + offset for i in reversed(range(steps))],
            "one too small: the lecture's t counts from 1, so the least is offset + 1.",
        ),
        (
            lambda T, steps, offset: [T // steps * i + 1 for i in reversed(range(steps))],
            "the offset is missing.",
        ),
        (
            lambda T, steps, offset: [round(T - T * i / steps) for i in range(steps)],
            "this is trailing spacing, which begins at T; leading spacing counts up from offset + 1.",
        ),
        (
            lambda T, steps, offset: [T // steps * (i + 1) + offset + 1 for i in reversed(range(steps))],
            "you begin a whole stride too late: the smallest time is offset + 1 itself.",
        ),
        (
            lambda T, steps, offset: [round(T / steps * i) + offset + 1 for i in reversed(range(steps))],
            "the stride is T // steps, rounded down once, not each of its multiples.",
        ),
    ],
)


def _latents(std: float, mean: float) -> torch.Tensor:
    return std * torch.randn(4, 4, 32, 32, generator=_generator, dtype=torch.float64) + mean


scale = Exercise(
    "scale",
    lambda z: (z - z.mean()).square().mean() ** -0.5,
    [(_latents(5.5, 0.0),), (_latents(0.5, 1.0),)],
    [
        (lambda z: z.std(), "upside down: latents of large variance need a small factor."),
        (lambda z: 1 / z.var(), "multiplying by s multiplies the variance by s^2: take the root of the variance."),
        (lambda z: z.square().mean() ** -0.5, "subtract the mean first: a variance is about the mean."),
        (
            lambda z: 1 / z.std(dim=(0, 2, 3)),
            "one number for all channels: a factor of its own for each would be a change of the latent.",
        ),
        (lambda z: 1 / z.abs().max(), "this bounds the largest value; variance 1 is wanted."),
    ],
    tolerance=1e-3,  # with n or n - 1 in the variance, of 16,384 values
)


def _name(N: int, k: int, first: int = 1, kinds: tuple[str, str] = ("resnets", "attentions")) -> str:
    level, block = divmod(N - first, 3)
    return f"down_blocks.{level}." + ("downsamplers.0" if block == 2 else f"{kinds[k]}.{block}")


diffusers_name = Exercise(
    "diffusers_name",
    lambda N, k: (
        f"down_blocks.{(N - 1) // 3}."
        + (f"{['resnets', 'attentions'][k]}.{(N - 1) % 3}" if N % 3 else "downsamplers.0")
    ),
    [(1, 0), (1, 1), (2, 0), (3, 0), (5, 1), (6, 0), (10, 0), (11, 0)],
    [
        (
            lambda N, k: _name(N, k, first=0),
            "input_blocks.0 is the first convolution, so the first level begins at 1: subtract 1 first.",
        ),
        (
            lambda N, k: f"down_blocks.{(N - 1) // 3}.{('resnets', 'attentions')[k]}.{(N - 1) % 3}",
            "a level has two residual blocks; its third block, N = 3, 6, 9, halves the resolution: downsamplers.0.",
        ),
        (
            lambda N, k: f"down_blocks.{(N - 1) // 2}.{('resnets', 'attentions')[k]}.{(N - 1) % 2}",
            "the change of resolution counts as a block too: three to a level, not two.",
        ),
        (
            lambda N, k: _name(N, k, kinds=("attentions", "resnets")),
            "part 0 is the residual block, part 1 the attention behind it.",
        ),
    ],
)
