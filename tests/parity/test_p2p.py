"""Prompt-to-Prompt as people know it: our edits equal Algorithm 1 written here with diffusers' attention processors and
scheduler, by the rules of google/prompt-to-prompt.

Only edits where those rules are right can agree, and they are told with their conventions: injection for a number of
calls. Left out, since ours differ on purpose:

- a swap that changes the prompt's number of tokens (`test_known_defects`), and a deleted word, which ours hand to BOS;
- a weight that outlasts the cross-attention window, our default: here it is given that window;
- a blend whose maps are not of the latent's size, which theirs brings there by nearest neighbours and ours smoothly,
  or that begins after a fraction of the calls, for which theirs waits one more.

One difference is written into the case that has it: padding, where a target is longer than its source.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch.testing import assert_close

from ldm.config import PRESETS, AutoencoderConfig, ModelConfig, ScheduleConfig, UNetConfig
from ldm.pipeline import LatentDiffusion
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Step, Window
from p2p.edits import Edit, Refine, Reweight, Swap
from p2p.inject import Layers
from p2p.local_blend import LocalBlend, Region
from tests.support.oracles import diffusers_unet, random_pipeline, transformers_text_encoder

SEED, GUIDANCE, STEPS, LENGTH = 3, 4.0, 5, 32
CONVENTIONS = {  # our schedule; theirs; the time steps of the calls, ours
    "stickers": ({}, dict(timestep_spacing="trailing", set_alpha_to_one=True), [1000, 800, 600, 400, 200]),
    "stable diffusion": (
        dict(spacing="leading", offset=1, last=1),
        dict(timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False),
        [802, 602, 402, 202, 2],
    ),
}
PIECES = {  # what the positions below count
    "a photo of a cat on the grass": "BOS a photo of a cat on the grass EOS",
    "a photo of a dog on the grass": "BOS a photo of a dog on the grass EOS",
    "a photo of a red striped cat on the grass": "BOS a photo of a red striped cat on the grass EOS",
    "a photo of a bicycle next to a cat": "BOS a photo of a bicy cle next to a cat EOS",
    "a photo of a cat next to a bicycle": "BOS a photo of a cat next to a bicy cle EOS",
    "a photo of a dog next to a red cat": "BOS a photo of a dog next to a red cat EOS",
}
CAT, DOG, RED_STRIPED_CAT, BICYCLE_CAT, CAT_BICYCLE, DOG_RED_CAT = PIECES

# ---------------------------------------------------------------------------------------------------------------------
# theirs

Replacement = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (A, A*) -> the edited A*, (heads, n, tokens) each


def replace(M: torch.Tensor) -> Replacement:
    return lambda A, A_own: torch.einsum("hpw,wn->hpn", A, M)


def refine(takes: list[tuple[int, ...]]) -> Replacement:
    """Of each target token the source tokens whose columns it takes; none for a new one."""
    alphas = torch.tensor([float(bool(tokens)) for tokens in takes], dtype=torch.float64)

    def edited(A: torch.Tensor, A_own: torch.Tensor) -> torch.Tensor:
        taken = torch.stack([A[..., list(tokens)].sum(dim=-1) for tokens in takes], dim=-1)
        return taken * alphas + A_own * (1 - alphas)

    return edited


def each(*positions: int) -> list[tuple[int, ...]]:
    return [(i,) for i in positions]


@dataclass
class Controller:
    """An attention processor for a batch of empty, empty, source and target. The last row is edited."""

    replacement: Replacement
    cross: list[int]  # for how many calls each target token takes the edited attention
    self_calls: range = range(0)  # those in which self-attention is the source's
    side: int = 16  # in layers of at most so many positions a side
    equalizer: dict[int, float] = field(default_factory=dict)  # weights of target tokens
    call: int = 0
    maps: list[torch.Tensor] = field(default_factory=list)  # of source and target, (2, 16, 16, tokens)

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        pairs = (attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context)
        query, key, value = (attn.head_to_batch_dim(layer(x)) for layer, x in pairs)
        probs = attn.get_attention_scores(query, key).unflatten(0, (4, attn.heads))
        source, target = probs[2], probs[3]
        if encoder_hidden_states is not None:
            probs = torch.cat([probs[:3], self.edited(source, target)[None]])
            if probs.shape[2] == 16 * 16:
                self.maps.append(probs[2:].mean(dim=1).unflatten(1, (16, 16)))
        elif self.call in self.self_calls and probs.shape[2] <= self.side**2:
            probs = torch.cat([probs[:3], source[None]])
        return attn.to_out[0](attn.batch_to_head_dim(probs.flatten(0, 1) @ value))

    def edited(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        equalizer = torch.ones(LENGTH, dtype=torch.float64)
        for token, weight in self.equalizer.items():
            equalizer[token] = weight
        alpha = torch.tensor([float(self.call < calls) for calls in self.cross], dtype=torch.float64)
        return self.replacement(source, target) * equalizer * alpha + target * (1 - alpha)


@dataclass
class Blend:
    """Of one word: where it looks in either prompt, but not where the other one does."""

    keep: tuple[int, int]  # token of the source, and of the target
    drop: tuple[int, int]
    threshold: float
    drop_threshold: float
    begins: int  # with the latents after this call, counted from 0
    masks: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, controller: Controller, z: torch.Tensor) -> torch.Tensor:
        maps = sum(controller.maps) / len(controller.maps)
        keep, drop = (torch.stack([maps[0, :, :, i], maps[1, :, :, j]])[:, None] for i, j in (self.keep, self.drop))
        keep = F.max_pool2d(keep, 3, stride=1, padding=1)
        over = []
        for word, threshold in ((keep, self.threshold), (drop, self.drop_threshold)):
            shares = word / word.amax(dim=(2, 3), keepdim=True)
            assert (shares - threshold).abs().min() > 1e-6  # or ours, which averages maps in float32, may differ
            over.append((shares > threshold).any(dim=0))
        mask = over[0] & ~over[1]
        if controller.call < self.begins:
            return z
        self.masks.append(mask)
        return torch.cat([z[:1], z[:1] + mask * (z[1:] - z[:1])])


@torch.no_grad()
def loop_over_diffusers(model: LatentDiffusion, convention: str) -> Callable:
    """Sampling with the model's parameters in diffusers' and transformers' networks."""
    unet, text_encoder = diffusers_unet(model.unet, (2, 4)), transformers_text_encoder(model.text_encoder)
    scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=False, **CONVENTIONS[convention][1])
    # Stable Diffusion's; the scheduler would have them in float32
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    scheduler.alphas_cumprod = (1 - betas).cumprod(0)
    if not scheduler.config.set_alpha_to_one:
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(STEPS)

    @torch.no_grad()
    def run(prompts: tuple[str, str], controller: Controller, blend=lambda controller, z: z) -> list[torch.Tensor]:
        """The latents of source and target after every step."""
        unet.set_attn_processor(controller)
        context = text_encoder(model.tokenizer.batch(["", "", *prompts])).last_hidden_state
        z = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(SEED)).double().expand(2, -1, -1, -1)
        found = []
        for controller.call, t in enumerate(scheduler.timesteps):
            empty, conditional = unet(torch.cat([z, z]), t, context).sample.chunk(2)
            z = scheduler.step(empty + GUIDANCE * (conditional - empty), t, z).prev_sample
            z = blend(controller, z)
            found.append(z)
        return found

    return run


# ---------------------------------------------------------------------------------------------------------------------
# ours


def small_model(tokenizer, convention: str) -> LatentDiffusion:
    """Random, in float64, with attention at 16 and at 8 positions a side."""
    config = ModelConfig(
        name="small",
        image_size=32,
        schedule=ScheduleConfig(**CONVENTIONS[convention][0]),
        autoencoder=AutoencoderConfig(widths=(16, 16), layers=1, latent_channels=4, groups=8),
        unet=UNetConfig(widths=(16, 32), layers=1, attention=(True, True), heads=(2, 4), context_width=24, groups=8),
        text=dataclasses.replace(PRESETS["stickers"].text, width=24, layers=2, heads=3, hidden=48),
    )
    return random_pipeline(config, tokenizer)


@pytest.fixture(scope="module", params=CONVENTIONS)
def convention(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(tokenizer, convention) -> LatentDiffusion:
    for prompt, pieces in PIECES.items():
        tokens = tokenizer.encode(prompt)
        assert [*tokens.pieces[1 : tokens.count - 1]] == pieces.split()[1:-1]
    return small_model(tokenizer, convention)


@pytest.fixture(scope="module")
def theirs(model, convention) -> Callable:
    return loop_over_diffusers(model, convention)


def assert_equal(states, expected: list[torch.Tensor]) -> None:
    for state, z_t in zip(states, expected, strict=True):
        # float64: 1e-14 from a small UNet (see its test), times 4 + 3 from guidance and 1 / sqrt(alpha_bar_T) = 15,
        # times what the later passes through a random network make of it
        assert_close(state.z_t, z_t, rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# the cases: by call in theirs, by time step in ours

IDENTITY = torch.eye(LENGTH, dtype=torch.float64)

# 'bicycle' and 'cat' change places, as does the number of their tokens: two tokens' maps are added where they become
# one, one is shared out where it becomes two, and what is between them moves up by a token
CROSSED = IDENTITY.clone()
CROSSED[5:11] = 0
CROSSED[[5, 6], [5, 5]] = 1
CROSSED[[7, 8, 9], [6, 7, 8]] = 1
CROSSED[[10, 10], [9, 10]] = 1 / 2

# 'dog' for the two tokens of 'bicycle', and 'red' before 'cat'
REFINED = [*each(0, 1, 2, 3, 4), (), *each(7, 8, 9), (), *each(*range(10, LENGTH))]

# two words more
INSERTED = [*each(0, 1, 2, 3, 4), (), (), *each(5, 6, 7, 8, 9), *each(*range(12, LENGTH))]


@dataclass(frozen=True)
class Case:
    """An edit, as theirs and as ours. Ours is given the time steps of the calls."""

    prompts: tuple[str, str]
    controller: Callable[[], Controller]
    edit: Callable[[list[int]], Edit]
    self_injection: Callable[[list[int]], SelfInjection] = lambda t: SelfInjection("never")


def per_token(calls: int, others: Mapping[int, int] = {}) -> list[int]:
    """As many calls for every target token but these."""
    return [others.get(token, calls) for token in range(LENGTH)]


CASES = {
    "swap": Case(
        (CAT, DOG),
        lambda: Controller(replace(IDENTITY), per_token(3)),
        lambda t: Swap("cat", "dog", Alpha(Step(t[2]))),
    ),
    "swap, one word for a call alone": Case(
        (CAT, DOG),
        lambda: Controller(replace(IDENTITY), per_token(4, {5: 1})),
        lambda t: Swap("cat", "dog", Alpha(Step(t[3]), {"dog": Step(t[0])})),
    ),
    "swap of one token for two, of two for one": Case(
        (BICYCLE_CAT, CAT_BICYCLE),
        lambda: Controller(replace(CROSSED), per_token(3)),
        lambda t: Swap("bicycle", "cat", Alpha(Step(t[2]))) + Swap("cat", "bicycle", Alpha(Step(t[2]))),
    ),
    "refine": Case(
        (BICYCLE_CAT, DOG_RED_CAT),
        lambda: Controller(refine(REFINED), per_token(3)),
        lambda t: Refine(Alpha(Step(t[2]))),
    ),
    "refine, a phrase more": Case(
        (CAT, RED_STRIPED_CAT),
        lambda: Controller(refine(INSERTED), per_token(3)),
        lambda t: Refine(Alpha(Step(t[2]))),
    ),
    "reweight on refine": Case(  # a new word, and one that has the source's attention
        (BICYCLE_CAT, DOG_RED_CAT),
        lambda: Controller(refine(REFINED), per_token(3), equalizer={9: 3.0, 10: -1.0}),
        lambda t: (
            Refine(Alpha(Step(t[2])))
            + Reweight("red", 3.0, window=Step(t[2]))
            + Reweight("cat", -1.0, injected_only=True)
        ),
    ),
    "self-injection at the lower level, from the second call to the third": Case(
        (BICYCLE_CAT, CAT_BICYCLE),
        lambda: Controller(replace(CROSSED), per_token(4), self_calls=range(1, 3), side=8),
        lambda t: Swap("bicycle", "cat", Alpha(Step(t[3]))) + Swap("cat", "bicycle", Alpha(Step(t[3]))),
        lambda t: SelfInjection(Window(start=Step(t[1]), end=Step(t[2])), Layers(side=8)),
    ),
    "self-injection at both levels, beyond cross-attention's": Case(
        (BICYCLE_CAT, DOG_RED_CAT),
        lambda: Controller(refine(REFINED), per_token(1), self_calls=range(0, 3)),
        lambda t: Refine(Alpha(Step(t[0]))),
        lambda t: SelfInjection(Step(t[2])),
    ),
}


@pytest.mark.parametrize(
    ("convention", "name"),
    [
        *(("stickers", name) for name in CASES),
        ("stable diffusion", "reweight on refine"),
        ("stable diffusion", "self-injection at the lower level, from the second call to the third"),
    ],
    indirect=["convention"],
)
def test_edits_equal_hooks_on_diffusers(model, theirs, convention, name):
    """Every step's latents of source and target, from both of our engines."""
    case, times = CASES[name], CONVENTIONS[convention][2]
    expected = theirs(case.prompts, case.controller())
    source, target = case.prompts
    ours = PromptToPrompt(model, source, (target,), (case.edit(times),), case.self_injection(times))
    for watch in (None, lambda site, A: None):  # folded; explicit
        assert_equal(ours.denoise(SEED, watch, steps=STEPS, guidance=GUIDANCE), expected)


def test_local_blend_equals_hooks_on_diffusers(model, theirs, convention):
    times = CONVENTIONS[convention][2]
    controller = Controller(replace(IDENTITY), per_token(3), self_calls=range(0, 2))
    blend = Blend(keep=(5, 5), drop=(8, 8), threshold=0.7, drop_threshold=0.75, begins=1)
    expected = theirs((CAT, DOG), controller, blend)
    assert all(0.1 < mask.double().mean() < 0.9 for mask in blend.masks)

    region = Region(("cat", "dog"), subtract=("grass",), threshold=0.7, subtract_threshold=0.75)
    tokens = [model.tokenizer.encode(prompt) for prompt in (CAT, DOG)]
    local = LocalBlend(tokens[0], tokens[1:], [region], T=1000, start=Step(times[1]))
    swap = Swap("cat", "dog", Alpha(Step(times[2])))
    ours = PromptToPrompt(model, CAT, (DOG,), (swap,), SelfInjection(Step(times[1])))
    assert_equal(ours.denoise(SEED, local.maps, steps=STEPS, guidance=GUIDANCE, blend=local), expected)
