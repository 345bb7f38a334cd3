"""The whole model [D13]: prompt to tau_theta(y), noise to latent in T steps, latent to picture."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ldm.attention import AttentionEdit, Site, attend
from ldm.autoencoder import Autoencoder
from ldm.config import ModelConfig
from ldm.samplers import DDIM, Step, times
from ldm.schedule import Prediction, Schedule, guided
from ldm.text_encoder import TextEncoder
from ldm.tokenizer import CLIPTokenizer
from ldm.unet import UNet


class State(NamedTuple):
    """Where the sampling stands: after a step, or where it is told to start."""

    t: int  # the time step reached; 0 at the end
    z_t: Float[Tensor, "b c h w"]
    prediction: Prediction | None = None  # the guided one that led here; none at a start


class Noise:
    """Standard normal latents, one random stream per picture: rows with the same seed get the same noise, whatever
    else is in the batch. Drawn on the CPU, so that every device makes the same picture."""

    def __init__(self, seeds: list[int], shape: tuple[int, ...]):
        self.shape = shape
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self) -> Float[Tensor, "b c h w"]:
        return torch.stack([torch.randn(self.shape, generator=g) for g in self.generators])


class LatentDiffusion:
    """A latent diffusion model, ready to use.

    Args:
        config: what the parts were built from.
        tokenizer, text_encoder, unet, autoencoder: the parts, on one device and in one dtype.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: CLIPTokenizer,
        text_encoder: TextEncoder,
        unet: UNet,
        autoencoder: Autoencoder,
    ):
        self.config, self.tokenizer = config, tokenizer
        self.schedule = Schedule(config.schedule)
        for part in (text_encoder, unet, autoencoder):
            # convolutions on the CPU are up to half as fast again with the channels last
            part.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.text_encoder, self.unet, self.autoencoder = text_encoder, unet, autoencoder

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent."""
        side = self.config.image_size // self.config.autoencoder.factor
        return (self.config.autoencoder.latent_channels, side, side)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Float[Tensor, "b m e"]:
        """tau_theta(y) of each prompt.

        Raises:
            ValueError: no prompts, or one longer than the context.
        """
        if not prompts:
            raise ValueError("give at least one prompt")
        return self.text_encoder(self.tokenizer.batch(prompts).to(self.device))

    @torch.no_grad()
    def encode_pictures(self, pictures: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b c h w"]:
        """z_0 of pictures, the mean of the encoder's Gaussian."""
        x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
        return self.autoencoder.encode((x.float() / 127.5 - 1).to(self.device, self.dtype))

    @torch.no_grad()
    def decode(self, z_0: Float[Tensor, "b c h w"]) -> UInt8[np.ndarray, "b H W 3"]:
        """The pictures of latents, as bytes."""
        # one at a time: at Stable Diffusion's size a decoder's features fill more memory than the whole UNet
        x = torch.cat([self.autoencoder.decode(z) for z in z_0.split(1)])
        x = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return x.permute(0, 2, 3, 1).cpu().numpy()

    @torch.no_grad()
    def predict(
        self,
        z_t: Float[Tensor, "b c h w"],
        t: int,
        context: Float[Tensor, "b m e"],
        guidance: float = 1.0,
        edit: AttentionEdit | None = None,
    ) -> Prediction:
        """The guided prediction [D18] at step t, of z_t given the prompts.

        The edit sees the conditional half of the batch alone; attention to the empty prompt is never edited.
        """
        b = len(z_t)
        if guidance == 1:
            output = self.unet(z_t, self._timestep(t, b), context, edit)
        else:
            empty = self.encode_prompts([""]).expand(b, -1, -1)
            both = self.unet(
                torch.cat([z_t, z_t]),
                self._timestep(t, 2 * b),
                torch.cat([empty, context]),
                edit and _second_half(edit, b),
            )
            output = guided(*both.chunk(2), guidance)
        return self.schedule.predict(output, z_t, t)

    def _timestep(self, t: int, b: int) -> Tensor:
        # the network counts from 0, as the public weights were trained
        return torch.full((b,), t - 1, device=self.device)

    @torch.no_grad()
    def denoise(
        self,
        context: Float[Tensor, "b m e"],
        seeds: list[int],
        *,
        steps: int = 30,
        guidance: float = 4.0,
        step: Step = DDIM,
        edit: Callable[[int], AttentionEdit | None] = lambda t: None,
        blend: Callable[[State], Float[Tensor, "b c h w"]] = lambda state: state.z_t,
        start: State | None = None,
    ) -> Iterator[State]:
        """Sample z_0, one yield per step [D16, D17].

        Args:
            context: tau_theta(y) of each row.
            seeds: of each row's z_T and of the noise that stochastic steps add.
            steps: how many of the T steps to visit, or of the start's t.
            guidance: w [D18].
            step: `DDIM`, `ddim_step(eta)` or `ddpm_step`.
            edit: what edits attention at step t, if anything does.
            blend: the latents to go on with after a step, given where it led.
            start: where to go on from, rather than from z_T at T; its latents may have any size.

        Raises:
            ValueError: as many steps can't be taken, or the start has not one row per prompt.
        """
        if start and len(start.z_t) != len(context):
            raise ValueError(f"the start has {len(start.z_t)} rows, the prompts are {len(context)}")
        visited = times(start.t if start else self.schedule.T, steps)
        draw = Noise(seeds, start.z_t.shape[1:] if start else self.latent_shape)
        noise = lambda: draw().to(self.device, self.dtype)
        z_T = noise()  # drawn in any case: a start may be made of it, and the steps' noise must be another
        z_t = start.z_t if start else z_T
        for t, t_prev in pairwise(visited):
            prediction = self.predict(z_t, t, context, guidance, edit(t))
            state = State(t_prev, step(self.schedule, prediction, z_t, t, t_prev, noise()), prediction)
            z_t = blend(state)
            yield state._replace(z_t=z_t)

    def generate(self, prompts: list[str], seeds: list[int], **sampling) -> UInt8[np.ndarray, "b H W 3"]:
        """Pictures of the prompts; `sampling` as for `denoise`."""
        *_, last = self.denoise(self.encode_prompts(prompts), seeds, **sampling)
        return self.decode(last.z_t)


def _second_half(edit: AttentionEdit, b: int) -> AttentionEdit:
    """The edit applied to the rows from b on, plain attention before."""

    def split(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        return torch.cat([attend(Q[:b], K[:b], V[:b]), edit(site, Q[b:], K[b:], V[b:])])

    return split
