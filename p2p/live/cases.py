"""Cases for the page's JavaScript, each with the result of the Python that it has to equal.

Every function of `site/src/method/` is tested on them: tokens and words, the matrices of inferred edits, timesteps and
sampling steps, noise by seed, regions of local blend. They are generated anew with every build of the page, from a
fixed seed, so the two can't drift apart.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.attention import Site
from ldm.pipeline import LatentDiffusion
from ldm.samplers import SAMPLERS, Visit
from ldm.schedule import guided
from ldm.states import Noise
from ldm.tokenizer import PromptTokenizer, Tokens
from p2p.alpha import Alpha, Window, window
from p2p.edits import Edit, Reweight
from p2p.local_blend import LocalBlend, Region
from p2p.reading import swaps
from p2p.switch_times import switch_times
from p2p.words import columns, names, words
from weights.training.world import Scene, Thing, caption, sample_scene

PROMPTS, EDITS, STEPS, NOISE, BLENDS = 160, 600, 140, 60, 40  # 1,000 in all
FRACTIONS = tuple(round(i / 1000, 3) for i in range(1001))
TIMES = (*FRACTIONS, *["never"] * 50)  # switch times
# Outside the model's world: punctuation, accents, cases, marks, digits, emoji, links and verbs of every kind
ODD = """A dog, wearing sunglasses! | two dogs running in front of the old house | the café's naïve chef | é vs. e\u0301
it's a rock-n-roll cat's hat | 42 cats & 7 dogs | ALL CAPS Dog | 🎉 party 🎉🎉 cat | a cat-like dog-like cat
an orange cat sitting | a big tabby cat sitting | <|endoftext|> cat | a cat ... a cat; a dog | ça va bien | x_y z
dogs sitting on top of the table next to a lemon cake | a man eats a bone | a man riding a horse | straße ﬁne
a big flying dog | three cats without hats | a very very very big cat | | 'quoted' "words" | a\u0323b 日本語
e\u0331\u0301x cat | हिन्दी cat
""".replace("\n", "|").split("|")
PAIRS = (  # of prompts that are equal but for their spelling, and that can be aligned in several ways
    ("straße ﬁne e\u0301 CAT", "STRASSE fine é cat"),
    ("a hat, a hat and a cat", "a cat and a hat, a hat"),
)


def cases(model: LatentDiffusion, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The cases by kind, as they are written to JSON."""
    rng, tokenizer = random.Random(seed), model.tokenizer
    texts = [text.strip() for text in ODD] + [_caption(rng) for _ in range(PROMPTS)]
    return {
        "prompts": [of_prompt(tokenizer.encode(text)) for text in texts[:PROMPTS]],
        "edits": [of_edit(model, *pair, rng) for pair in _pairs(rng, tokenizer, EDITS)],
        "steps": [of_step(model, rng, i) for i in range(STEPS)],
        "noise": [of_noise(model, seed) for seed in [*range(NOISE - 5), 2**31, 2**32 - 1, 2**32, 2**40 + 7, 2**62]],
        "blends": [of_blend(model, *pair, rng) for pair in _pairs(rng, tokenizer, BLENDS)],
    }


def of_prompt(tokens: Tokens) -> dict[str, Any]:
    """Tokens, and each word's name and columns."""
    found = dict(zip(names(tokens), (word.columns for word in words(tokens))))
    return {
        "prompt": tokens.prompt,
        "ids": tokens.ids,
        "pieces": tokens.pieces,
        "spans": tokens.spans,
        "count": tokens.count,
        "words": found,
    }


def of_edit(model: LatentDiffusion, source: Tokens, target: Tokens, rng: random.Random) -> dict[str, Any]:
    """The inferred edit with random times and weights: its swaps, its new words, the times that it would have by
    default, and P_t and Q_t at timesteps where they change."""
    T, known = model.schedule.T, names(target)
    tau, until = rng.choice(TIMES), _window(rng)
    P = Edit.between(source, target, Alpha(0.0)).compile(source, target, T)(T).P
    new = [word for word in known if not P[:, list(columns(target, word))].any()]  # which may have no alpha
    old = [word for word in known if word not in new]
    alpha = {word: _window(rng) for word in rng.sample(old, min(len(old), rng.choice((0, 0, 1, 2))))}
    weights = {word: rng.randint(-8, 16) / 4 for word in rng.sample(known, min(len(known), rng.choice((0, 0, 1, 2))))}
    edit: Edit = Edit.between(source, target, Alpha(tau, alpha))
    for word, factor in weights.items():
        edit = edit + Reweight(word, factor)
    matrices, self_share = edit.compile(source, target, T), until.compile(T)
    ends = [end for each in (window(tau), until, *alpha.values()) for end in (each.end, each.start) if end != "never"]
    near = {min(max(round(end * T) + beside, 1), T) for end in ends for beside in (-1, 0, 1)}
    steps = []
    for t in sorted({rng.randint(1, T), *rng.choices(sorted(near), k=3)}):
        P, Q, _ = matrices(t)
        places = P.nonzero().tolist()
        steps.append({"t": t, "P": [[i, j, P[i, j].item()] for i, j in places], "Q": Q.tolist(), "self": self_share(t)})
    return {
        "source": source.prompt,
        "target": target.prompt,
        "tau": tau,
        "until": _ends(until),
        "alpha": {word: _ends(own) for word, own in alpha.items()},
        "weights": weights,
        "swaps": swaps(source, target),
        "new": new,
        "default": switch_times(source, target)._asdict(),
        "steps": steps,
    }


def of_step(model: LatentDiffusion, rng: random.Random, i: int) -> dict[str, Any]:
    """A guided step of a sampler from random predictions, and the timesteps of its run."""
    generator = torch.Generator().manual_seed(i)
    draw = lambda: torch.randn(1, 1, 2, 2, generator=generator)
    name, steps, guidance = rng.choice(("ddim", "dpm++")), rng.randint(1, 100), rng.randint(0, 32) / 4
    sampler, schedule = SAMPLERS[name], model.schedule
    visited = sampler.visit(schedule, steps, None)
    k = rng.randrange(steps)
    t, t_prev = visited[k : k + 2]
    z_t, uncond, cond = draw(), draw(), draw()
    prediction = schedule.predict(z_t, guided(uncond, cond, guidance), t)
    past = ()
    if k:
        before = draw()
        past = (Visit(visited[k - 1], before, schedule.predict(before, draw(), visited[k - 1])),)
    z_prev = sampler.step(schedule, z_t, prediction, t, t_prev, torch.zeros_like(z_t), past)
    latents = {"z_t": z_t, "uncond": uncond, "cond": cond, "z_prev": z_prev}
    latents |= {"past_z_0": past[0].prediction.z_0} if past else {}
    return {
        "sampler": name,
        "steps": steps,
        "guidance": guidance,
        "times": visited,
        "k": k,
        "alpha_bar": schedule.alpha_bar[t].item(),
        **{key: latent.flatten().tolist() for key, latent in latents.items()},
    }


def of_noise(model: LatentDiffusion, seed: int) -> dict[str, Any]:
    """z_T of a seed: every sixteenth number from each of the sixteen places, and the sum of the squares."""
    z_T = Noise([seed], model.latent_shape)().flatten()
    return {"seed": str(seed), "every": 17, "z_T": z_T[::17].tolist(), "squares": z_T.double().square().sum().item()}


def of_blend(model: LatentDiffusion, source: Tokens, target: Tokens, rng: random.Random) -> dict[str, Any]:
    """The region of random words, from random maps of 4x4 positions at two steps."""
    side, m = 4, len(source.ids)
    both = dict.fromkeys(names(source) + names(target))
    known = [name for name in both if "#" not in name and not any(_has(y, f"{name}#2") for y in (source, target))]
    chosen = rng.sample(known, min(len(known), rng.choice((1, 2))))
    blend = LocalBlend(source, [target], [Region(tuple(chosen))], model.schedule.T, side=side)
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    steps = []
    for _ in range(2):
        scores: Float[Tensor, "b h n m"] = 8 * torch.randn(2, 1, side * side, m, generator=generator)
        A = scores.softmax(dim=-1)
        blend.maps(Site("cross", "down", 0, side, side), A)
        steps.append([round(x, 7) for x in A[:, 0].mT.flatten().tolist()])
    mask = blend.masks((side, side))[0].flatten().tolist()
    return {"source": source.prompt, "target": target.prompt, "words": chosen, "maps": steps, "mask": mask}


def _has(tokens: Tokens, word: str) -> bool:
    try:
        return bool(columns(tokens, word))
    except ValueError:
        return False


def _window(rng: random.Random) -> Window:
    """A random window, half of the time from the first step."""
    if rng.random() < 0.5:
        return window(rng.choice(TIMES))
    end, start = sorted(rng.sample(FRACTIONS, 2))
    return Window(end, start)


def _ends(of: Window) -> list[float | str]:
    return [of.start, of.end]


def _caption(rng: random.Random) -> str:
    return caption(sample_scene(rng.randrange(2**31)))


def _pairs(rng: random.Random, tokenizer: PromptTokenizer, count: int) -> Iterator[tuple[Tokens, Tokens]]:
    """Pairs of prompts that have words: a caption and one that shares most of its words, two captions, or odd ones."""
    yield from (tuple(map(tokenizer.encode, pair)) for pair in PAIRS)
    odd = [text.strip() for text in ODD if words(tokenizer.encode(text.strip()))]
    for _ in range(count - len(PAIRS)):
        scene, other = sample_scene(rng.randrange(2**31)), sample_scene(rng.randrange(2**31))
        kind = rng.random()
        if kind < 0.6:
            pair = caption(scene), caption(_changed(scene, other, rng))
        elif kind < 0.8:
            pair = caption(scene), caption(other)
        else:
            pair = rng.choice(odd), rng.choice(odd)
        source, target = map(tokenizer.encode, pair)
        yield source, target


def _changed(scene: Scene, other: Scene, rng: random.Random) -> Scene:
    """The scene with one or two properties of another."""
    theirs: Thing = other.things[0]
    first = lambda scene, **change: {"things": (replace(scene.things[0], **change), *scene.things[1:])}
    changes = (
        lambda scene: first(scene, noun=theirs.noun),
        lambda scene: first(scene, colour=theirs.colour),
        lambda scene: first(scene, size=theirs.size),
        lambda scene: {"place": other.place, "says_place": other.says_place},
        lambda scene: {"weather": other.weather},
        lambda scene: {"style": other.style},
        lambda scene: {"things": other.things, "relation": other.relation},
    )
    for change in rng.sample(changes, rng.choice((1, 2))):
        scene = scene.replace(**change(scene))
    return scene
