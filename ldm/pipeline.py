"""The whole model [D13]: prompt to tau_theta(y), noise to latent in T steps, latent to picture."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ldm.attention import AttentionEdit, Site, attend
from ldm.autoencoder import Autoencoder
from ldm.bert import BertEncoder
from ldm.config import ModelConfig
from ldm.pictures import to_bytes, to_tensor
from ldm.samplers import DDIM, REMEMBERED, Sampler, Visit
from ldm.schedule import Prediction, Schedule, guided
from ldm.text_encoder import TextEncoder
from ldm.tokenizer import PromptTokenizer
from ldm.unet import UNet
from ldm.vocabulary import Vocabulary


class State(NamedTuple):
    """Where the sampling stands: after a step, or where it is told to start."""

    t: int  # the time step reached; at the end 0, or where the sampler ends
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
        tokenizer, text_encoder: None for a model without prompts, whose only prompt is the empty one.
        unet, autoencoder: with the text encoder on one device and in one dtype. All three are frozen from here on:
            `requires_grad_` makes them trainable again.
        vocabulary: the words it was trained on, if they are listed.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: PromptTokenizer | None,
        text_encoder: TextEncoder | BertEncoder | None,
        unet: UNet,
        autoencoder: Autoencoder,
        vocabulary: Vocabulary | None = None,
    ):
        self.config, self._tokenizer, self.vocabulary = config, tokenizer, vocabulary
        self.schedule = Schedule(config.schedule)
        for part in filter(None, (text_encoder, unet, autoencoder)):
            # convolutions on the CPU are up to half as fast again with the channels last
            part.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.text_encoder, self.unet, self.autoencoder = text_encoder, unet, autoencoder

    @property
    def tokenizer(self) -> PromptTokenizer:
        """Raises ValueError for a model without prompts."""
        if self._tokenizer is None:
            raise ValueError(f"{self.config.name} was trained without prompts: it has none to read or to edit")
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    @property
    def latent_dtype(self) -> torch.dtype:
        """Of latents outside the networks: at least float32, even if the model is in half precision, since late steps
        change them by less than bfloat16 tells apart."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent."""
        side = self.config.image_size // self.config.autoencoder.factor
        return (self.config.autoencoder.latent_channels, side, side)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Float[Tensor, "b m e"]:
        """tau_theta(y) of each prompt; no tokens at all, m = 0, from a model without prompts.

        Raises:
            ValueError: no prompts, one longer than the context, or one for a model without prompts.
        """
        if not prompts:
            raise ValueError("give at least one prompt")
        if self.text_encoder is None and not any(prompts):
            return torch.empty(len(prompts), 0, 0, device=self.device, dtype=self.dtype)
        return self.text_encoder(self.tokenizer.batch(prompts).to(self.device))

    @torch.no_grad()
    def encode_pictures(self, pictures: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b c h w"]:
        """z_0 of pictures: the mean of the encoder's Gaussian [B2], or its output where a codebook follows [B3]."""
        return self.autoencoder.encode(to_tensor(pictures).to(self.device, self.dtype)).to(self.latent_dtype)

    @torch.no_grad()
    def decode(self, z_0: Float[Tensor, "b c h w"]) -> UInt8[np.ndarray, "b H W 3"]:
        """The pictures of latents, as bytes.

        Raises:
            FloatingPointError: the decoder makes numbers of them that are not finite.
        """
        # one at a time: at Stable Diffusion's size a decoder's features fill more memory than the whole UNet
        x = torch.cat([self.autoencoder.decode(z) for z in z_0.to(self.dtype).split(1)])
        if not x.isfinite().all():
            raise FloatingPointError(
                f"the image is not finite in {self._precision}: the latents it is decoded from reach "
                f"{z_0.abs().max().item():.3g}, where a model's own stay below 100"
            )
        return to_bytes(x)

    @property
    def _precision(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @torch.no_grad()
    def predict(
        self,
        z_t: Float[Tensor, "b c h w"],
        t: int,
        context: Float[Tensor, "b m e"],
        guidance: float = 1.0,
        edit: AttentionEdit | None = None,
        empty: Float[Tensor, "1 m e"] | None = None,
    ) -> Prediction:
        """The guided prediction [D18] at step t, of z_t given the prompts; `empty` is tau_theta of the empty one, if it
        is known already.

        The edit sees the conditional half of the batch alone; attention to the empty prompt is never edited. Only the
        network computes in the model's dtype; the rest, and the result, are in that of z_t.
        """
        b, x = len(z_t), z_t.to(self.dtype)
        timestep = torch.tensor([t - 1], device=self.device)  # counted from 0, as in training; shared by all rows
        if guidance == 1 or not context.shape[1]:  # without tokens both predictions are one
            output = self.unet(x, timestep, context, edit).to(z_t.dtype)
        else:
            empty = self.encode_prompts([""]) if empty is None else empty
            both = self.unet(
                torch.cat([x, x]),
                timestep,
                torch.cat([empty.expand(b, -1, -1), context]),
                edit and _second_half(edit, b),
            )
            output = guided(*both.to(z_t.dtype).chunk(2), guidance)
        return self.schedule.predict(output, z_t, t)

    @torch.no_grad()
    def denoise(
        self,
        context: Float[Tensor, "b m e"],
        seeds: list[int],
        *,
        steps: int = 30,
        guidance: float = 4.0,
        sampler: Sampler = DDIM,
        edit: Callable[[int], AttentionEdit | None] = lambda t: None,
        blend: Callable[[State], Float[Tensor, "b c h w"]] = lambda state: state.z_t,
        start: State | None = None,
    ) -> Iterator[State]:
        """Sample z_0, one yield per network call [D16, D17].

        Latents are in the model's `latent_dtype`; a start stays as it is, and in half precision becomes float32.

        Args:
            context: tau_theta(y) of each row.
            seeds: of each row's z_T and of the noise that stochastic steps add.
            steps: how many of the T steps to visit, or of the start's t.
            guidance: w [D18].
            sampler: one of `SAMPLERS`, or `Sampler(ddim_step(eta))`.
            edit: what edits attention at step t, if anything does.
            blend: the latents to go on with after a step, given where it led.
            start: where to go on from, rather than from z_T at T; its latents may have any size. From below T the
                steps are evenly spread, and a multistep sampler remembers nothing of what led there.

        Raises:
            ValueError: as many steps can't be taken, or there is not one seed, and one row of a start, per prompt.
            FloatingPointError: a step leads to latents that are not finite.
        """
        if len(seeds) != len(context):
            raise ValueError(f"there are {len(context)} prompts and {len(seeds)} seeds: each picture has one of each")
        if start and len(start.z_t) != len(context):
            raise ValueError(f"the start has {len(start.z_t)} rows, the prompts are {len(context)}")
        visited = sampler.visit(self.schedule, steps, start.t if start else None)
        draw = Noise(seeds, start.z_t.shape[1:] if start else self.latent_shape)
        dtype = torch.promote_types(start.z_t.dtype, torch.float32) if start else self.latent_dtype
        noise = lambda: draw().to(self.device, dtype)
        z_T = noise()  # drawn in any case: a start may be made of it, and the steps' noise must be another
        z_t = start.z_t.to(dtype) if start else z_T
        empty = self.encode_prompts([""]) if guidance != 1 else None  # once, not at every step
        past: deque[Visit] = deque(maxlen=REMEMBERED)
        for step, (t, t_prev) in enumerate(pairwise(visited), start=1):
            prediction = self.predict(z_t, t, context, guidance, edit(t), empty)
            z_prev = sampler.step(self.schedule, prediction, z_t, t, t_prev, noise(), tuple(past))
            if not z_prev.isfinite().all():
                wider = "" if self.dtype == self.latent_dtype else ", compute in float32"
                raise FloatingPointError(
                    f"step {step} of {len(visited) - 1}, t = {t}, gives numbers that are not finite in "
                    f"{self._precision}: lower the guidance ({guidance:g}){wider}"
                )
            past.append(Visit(t, z_t, prediction))
            state = State(t_prev, z_prev, prediction)
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
