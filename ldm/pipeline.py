"""The whole model [D13]: prompt to tau_theta(y), noise to latent in T steps, latent to image."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ldm.attention import AttentionFn, Site, attend
from ldm.autoencoder import Autoencoder
from ldm.class_embedder import ClassEmbedder, ClassTokenizer
from ldm.config import ModelConfig
from ldm.helpers.checks import check_context, check_latents, check_prompts, check_rows
from ldm.helpers.images import to_bytes, to_tensor
from ldm.helpers.vocabulary import Vocabulary
from ldm.samplers import DDIM, REMEMBERED, Sampler, StepFn, Visit
from ldm.schedule import Prediction, Schedule, guided
from ldm.shapes import Latent, Times
from ldm.states import Noise, State, States
from ldm.text_encoder import TextEncoder
from ldm.tokenizer import PromptTokenizer, Tokens
from ldm.unet import UNet
from ldm.zoo.bert import BertEncoder

ENLARGE = "let `p2p restore --task super` enlarge an image by it"


class Origin(NamedTuple):
    """What `weights.load` made a model of: its arguments, for a saved call to name."""

    model: str
    ema: bool
    parameterisation: str | None


class LatentDiffusion:
    """A latent diffusion model, ready to use.

    Args:
        config: of the parts below.
        tokenizer, text_encoder: None for a model without prompts, whose only prompt is the empty one; those of a
            class-conditional model take the name of a class as the prompt.
        unet, autoencoder: on the device and in the dtype of the text encoder. All three are frozen; `requires_grad_`
            makes them trainable again.
        vocabulary: the words of the training captions, if known.
        origin: if it was loaded.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: PromptTokenizer | ClassTokenizer | None,
        text_encoder: TextEncoder | BertEncoder | ClassEmbedder | None,
        unet: UNet,
        autoencoder: Autoencoder,
        vocabulary: Vocabulary | None = None,
        origin: Origin | None = None,
    ):
        self.config, self._tokenizer, self.vocabulary, self.origin = config, tokenizer, vocabulary, origin
        self.schedule = Schedule(config.schedule)
        for part in filter(None, (text_encoder, unet, autoencoder)):
            # channels-last makes convolutions on the CPU up to 1.5x faster
            part.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.text_encoder, self.unet, self.autoencoder = text_encoder, unet, autoencoder

    @property
    def tokenizer(self) -> PromptTokenizer | ClassTokenizer:
        """Raises ValueError for a model without prompts."""
        if self._tokenizer is None:
            instead = f"; {ENLARGE}" if self.config.unet.condition_channels else ""
            raise ValueError(f"{self.config.name} was trained without prompts: it has none to read or to edit{instead}")
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    @property
    def latent_dtype(self) -> torch.dtype:
        """The dtype of latents outside the networks: at least float32, even for a model in half precision, because late
        steps change them by less than bfloat16 resolves."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent."""
        side = self.config.image_size // self.config.autoencoder.factor
        return (self.config.autoencoder.latent_channels, side, side)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Float[Tensor, "b m e"]:
        """tau_theta(y) of each prompt; without tokens (m = 0) for a model without prompts.

        Raises:
            ValueError: not a list of prompts, an empty list, a prompt longer than the context, or a non-empty prompt
                for a model without prompts.
        """
        check_prompts("prompts", prompts)
        if not prompts:
            raise ValueError("give at least one prompt")
        if self.text_encoder is None and not any(prompts):
            return torch.empty(len(prompts), 0, 0, device=self.device, dtype=self.dtype)
        return self.encode_tokens([self.tokenizer.encode(prompt) for prompt in prompts])

    @torch.no_grad()
    def encode_tokens(self, tokens: list[Tokens]) -> Float[Tensor, "b m e"]:
        """tau_theta(y) of prompts that are tokenized already."""
        return self.text_encoder(torch.tensor([y.ids for y in tokens]).to(self.device))

    @torch.no_grad()
    def encode_images(self, images: UInt8[np.ndarray, "b H W 3"]) -> Latent:
        """Encode images to z_0: the mean of the Gaussian [B2], or the encoder's output if there is a codebook [B3]."""
        return self.autoencoder.encode(to_tensor(images).to(self.device, self.dtype)).to(self.latent_dtype)

    @torch.no_grad()
    def decode(self, z_0: Latent) -> UInt8[np.ndarray, "b H W 3"]:
        """Decode latents to images, as bytes.

        Raises:
            ValueError: not latents of this model.
            FloatingPointError: the decoder's output is not finite.
        """
        if isinstance(z_0, State):
            raise ValueError("z_0 must be latents, got the state of a run: write state.z_t")
        check_latents(z_0=z_0)
        # one at a time: at Stable Diffusion's size the decoder's features take more memory than the whole UNet
        x = torch.cat([self.autoencoder.decode(z) for z in z_0.to(self.dtype).split(1)])
        if not x.isfinite().all():
            raise FloatingPointError(
                f"the image is not finite in {self._precision}: the latents it is decoded from reach "
                f"{z_0.abs().max().item():.3g}, where a model's own stay below 100"
            )
        return to_bytes(x)

    def _check_condition(self, condition: object, rows: int, size: torch.Size | None) -> None:
        """Raises ValueError unless this is the condition of `rows` latents, of this height and width if it is given."""
        channels, name = self.config.unet.condition_channels, self.config.name
        if condition is None and not channels:
            return
        if condition is None:
            raise ValueError(f"{name} makes an image of another one: give it as condition, or {ENLARGE}")
        if not channels:
            raise ValueError(f"{name} makes an image of a prompt alone: leave out condition")
        there = isinstance(condition, Tensor) and condition.is_floating_point() and condition.ndim == 4
        if not there or condition.shape[1] != channels or size not in (None, condition.shape[2:]):
            wanted = "h, w" if size is None else f"{size[0]}, {size[1]}"
            got = type(condition).__name__
            if isinstance(condition, Tensor):
                got = f"{condition.dtype} of shape {tuple(condition.shape)}"
            raise ValueError(
                f"condition must be images in [-1, 1], (b, {channels}, {wanted}), got {got}: "
                "ldm.helpers.images.to_tensor converts bytes (b, H, W, 3)"
            )
        if len(condition) not in (1, rows):
            raise ValueError(f"there are {rows} images to make of {len(condition)}: give one for all, or one for each")

    @property
    def _precision(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @torch.no_grad()
    def predict(
        self,
        z_t: Latent,
        t: Times,
        context: Float[Tensor, "#b m e"],
        guidance: float = 1.0,
        attn_fn: AttentionFn | None = None,
        empty: Float[Tensor, "1 m e"] | None = None,
        condition: Float[Tensor, "#b k h w"] | None = None,
        known: Float[Tensor, "r c h w"] | None = None,
    ) -> Prediction:
        """The guided prediction [D18] from z_t at step t, given the prompts; `empty` is what guidance leads away from,
        by default tau_theta of the empty prompt. A model with a condition gets it behind z_t, as further channels.

        `attn_fn` applies to the conditional rows of the batch only; attention to the empty prompt stays plain.
        Only the network computes in the model's dtype; the rest, and the result, are in that of z_t.

        `known` is the z_0 of the first rows, if it is known; t is then one for all rows. The network computes these
        rows for the attention of the others: without guidance, and without `attn_fn` not at all.

        Raises:
            ValueError: t is outside 1..T, or an argument has the wrong type or shape.
        """
        check_latents(z_t=z_t)
        check_context(context)
        check_rows(z_t, "prompts", len(context))
        times = torch.as_tensor(self.schedule.index(t)).reshape(-1)  # one for all rows, or one per row
        if times.min() < 1:
            raise ValueError(f"t must lie in 1..{self.schedule.T}, got {t}: there is nothing to predict at 0")
        b, x, context = len(z_t), z_t.to(self.dtype), context.expand(len(z_t), -1, -1)
        self._check_condition(condition, b, z_t.shape[2:])
        if condition is not None:
            x = torch.cat([x, condition.to(x).expand(b, -1, -1, -1)], dim=1)
        timestep = (times - 1).to(self.device)  # counted from 0, as in training
        empty = self.encode_prompts([""]) if empty is None and guidance != 1 and context.shape[1] else empty
        r = 0 if known is None else len(known)
        # first, since it refuses a `known` that does not fit before anything is computed
        of_known = Prediction(self.schedule.eps_from_z_0(z_t[:r], known, t), known) if r else None
        output = self._output(x, timestep, context, guidance, attn_fn, empty, r, z_t.dtype)
        prediction = self.schedule.predict(z_t[r:], output, t)
        return Prediction(*map(torch.cat, zip(of_known, prediction))) if of_known else prediction

    def _output(
        self,
        x: Float[Tensor, "b i h w"],
        timestep: Int[Tensor, " #b"],
        context: Float[Tensor, "b m e"],
        guidance: float,
        attn_fn: AttentionFn | None,
        empty: Float[Tensor, "1 m e"] | None,
        r: int,
        dtype: torch.dtype,
    ) -> Float[Tensor, "o c h w"]:
        """The network's guided output for the rows from r on; no row is computed that is not needed for it."""
        first = 0 if attn_fn else r
        if first == len(x):
            return x[r:].to(dtype)
        if guidance == 1 or not context.shape[1]:  # without tokens both predictions are the same
            return self.unet(x[first:], timestep, context[first:], attn_fn)[r - first :].to(dtype)
        away = x[r:]
        if len(timestep) == 1 and (away == away[:1]).all():  # equal rows, as those of an edit at z_T, share one
            away = away[:1]
        u = len(away)
        both = self.unet(
            torch.cat([away, x[first:]]),
            timestep if len(timestep) == 1 else timestep.repeat(2),
            torch.cat([empty.expand(u, -1, -1), context[first:]]),
            attn_fn and _from_row(attn_fn, u),
        ).to(dtype)
        conditional = both[u + r - first :]
        return guided(both[:u].expand_as(conditional), conditional, guidance)

    def denoise(
        self,
        context: Float[Tensor, "b m e"],
        seeds: list[int],
        *,
        steps: int = 30,
        guidance: float = 4.0,
        sampler: Sampler = DDIM,
        attn_fn: Callable[[int], AttentionFn | None] = lambda t: None,
        blend: Callable[[State], Latent] = lambda state: state.z_t,
        start: State | None = None,
        empty: Callable[[int], Float[Tensor, "1 m e"]] | None = None,
        condition: Float[Tensor, "#b k h w"] | None = None,
        known: Float[Tensor, "r c h w"] | None = None,
    ) -> States:
        """Sample z_0, yielding a state per network call [D16, D17].

        Latents are in the model's `latent_dtype`; the latents of `start` keep their dtype, except that half precision
        becomes float32.

        Args:
            context: tau_theta(y) of each row.
            seeds: of each row's z_T and of the noise that stochastic steps add.
            steps: the number of timesteps to visit, out of T, or of `start.t`.
            guidance: w [D18].
            sampler: one of `SAMPLERS`, or `Sampler(ddim_step(eta))`.
            attn_fn: t -> the attention function of step t, called in place of plain attention; or None.
            blend: maps the state after a step to the latents to continue with.
            start: the state to continue from, instead of z_T at T; its latents may have any size. Below T the steps are
                evenly spaced, and a multistep sampler starts without earlier predictions.
            empty: t -> what guidance leads away from at step t, in place of tau_theta of the empty prompt.
            condition: for a model with one, images in [-1, 1], as large as the latents will be.
            known: z_0 of the first rows, whose latents `blend` replaces after every step: see `predict`.

        Raises:
            ValueError: too many or too few steps, not exactly one seed (and one row of `start`) per prompt, a missing
                condition or one that does not fit, or an argument of the wrong type. Raised by the call itself, before
                the first step.
            FloatingPointError: the latents after a step are not finite.
        """
        if isinstance(seeds, int | np.integer):
            raise ValueError(f"seeds must be a list, one for each prompt, got {seeds}: write [{seeds}]")
        check_context(context)
        if len(seeds) != len(context):
            raise ValueError(f"there are {len(context)} prompts and {len(seeds)} seeds: each image has one of each")
        if start and len(start.z_t) != len(context):
            raise ValueError(f"the start has {len(start.z_t)} rows, the prompts are {len(context)}")
        if not isinstance(sampler, Sampler):
            how = f"SAMPLERS[{sampler!r}]" if isinstance(sampler, str) else "Sampler(step)"
            raise ValueError(f"sampler must be a Sampler, got {sampler!r}: write {how}")
        if not callable(attn_fn):
            raise ValueError(
                f"attn_fn must be a function of t that returns an attention function, got {attn_fn!r}: "
                "an edit of prompts goes to PromptToPrompt"
            )
        self._check_condition(condition, len(context), start.z_t.shape[2:] if start else None)
        like = start.z_t if start else condition
        shape = self.latent_shape if like is None else (self.latent_shape[0], *like.shape[2:])
        visited = sampler.visit(self.schedule, steps, start.t if start else None)
        draw = Noise(seeds, shape)
        run = self._states(
            context, visited, draw, guidance, sampler.step, attn_fn, blend, start, empty, condition, known
        )
        return States(run)

    @torch.no_grad()
    def _states(
        self,
        context: Float[Tensor, "b m e"],
        visited: list[int],
        draw: Noise,
        guidance: float,
        step: StepFn,
        attn_fn: Callable[[int], AttentionFn | None],
        blend: Callable[[State], Latent],
        start: State | None,
        empty: Callable[[int], Float[Tensor, "1 m e"]] | None,
        condition: Float[Tensor, "#b k h w"] | None,
        known: Float[Tensor, "r c h w"] | None,
    ) -> Iterator[State]:
        dtype = torch.promote_types(start.z_t.dtype, torch.float32) if start else self.latent_dtype
        noise = lambda: draw().to(self.device, dtype)
        z_T = noise()  # drawn in any case: `start` may be made of this noise, and the steps' noise must differ
        z_t = start.z_t.to(dtype) if start else z_T
        if empty is None:
            once = self.encode_prompts([""]) if guidance != 1 else None  # not at every step
            empty = lambda t: once
        past: deque[Visit] = deque(maxlen=REMEMBERED)
        for i, (t, t_prev) in enumerate(pairwise(visited), start=1):
            prediction = self.predict(z_t, t, context, guidance, attn_fn(t), empty(t), condition, known)
            z_prev = step(self.schedule, z_t, prediction, t, t_prev, noise(), tuple(past))
            if not z_prev.isfinite().all():
                wider = "" if self.dtype == self.latent_dtype else ", compute in float32"
                raise FloatingPointError(
                    f"step {i} of {len(visited) - 1}, t = {t}, gives numbers that are not finite in "
                    f"{self._precision}: lower the guidance ({guidance:g}){wider}"
                )
            past.append(Visit(t, z_t, prediction))
            state = State(t_prev, z_prev, prediction)
            z_t = blend(state)
            yield state._replace(z_t=z_t)

    def generate(self, prompts: list[str], seeds: list[int], **sampling) -> UInt8[np.ndarray, "b H W 3"]:
        """Generate an image for each prompt; `sampling` as for `denoise`."""
        *_, last = self.denoise(self.encode_prompts(prompts), seeds, **sampling)
        return self.decode(last.z_t)


def _from_row(attn_fn: AttentionFn, u: int) -> AttentionFn:
    """Apply `attn_fn` to the rows from u on, and plain attention to the rows before."""

    def split(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        return torch.cat([attend(Q[:u], K[:u], V[:u]), attn_fn(site, Q[u:], K[u:], V[u:])])

    return split
