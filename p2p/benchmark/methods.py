"""The methods that the benchmark compares, and the settings that are tried of each.

A method edits one scene on one track by several settings at once, since those can share the source's run. On the *real
image* track the scene's rendering is inverted with DDIM steps; on the *generated* track the model makes the source, by
15 steps of DPM-Solver++, which equal 100 of DDIM.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, product

import torch
from jaxtyping import Bool
from torch import Tensor

from ldm.helpers.likeness import psnr
from ldm.pipeline import LatentDiffusion
from ldm.states import State
from ldm.tokenizer import PromptTokenizer
from p2p.algorithm import SelfInjection
from p2p.alpha import Alpha, Time
from p2p.benchmark.answers import Track
from p2p.benchmark.measures import Picture
from p2p.benchmark.scenes import BenchmarkScene, Kind
from p2p.call import Call, Sampling, Target
from p2p.edits import Edit, Renormalise, Swap
from p2p.experiments.baselines import fixed_seed, inpaint, reference, sdedit
from p2p.inversion.ddim import FIXED_POINT, ddim
from p2p.inversion.inverted import Inverted, Method
from p2p.inversion.methods import corrected, invert_latent
from p2p.local_blend import Region
from p2p.mappers import Merge
from p2p.masks import share
from p2p.reading import swaps
from p2p.switch_times import FOR_OBJECTS, FOR_OTHERS
from p2p.words import columns

STEPS, SAMPLER = {"real image": 20, "generated": 15}, {"real image": "ddim", "generated": "dpm++"}
ANOTHER = 1000  # added to the seed of a scene, for noise that has nothing to do with its source


@dataclass(frozen=True)
class Setting:
    """The settings of one edit; those that a method does not have are ignored."""

    guidance: float = 4.0
    tau: Time = 0.2
    until: Time = 0.6  # of self-attention injection
    merge: Merge = "sum"
    renormalise: bool = False
    t_0: float = 0.5  # of SDEdit

    def __str__(self) -> str:
        changes = [f"{name} {value}" for name, value in vars(self).items() if value != getattr(Setting, name)]
        return ", ".join(changes) or "published"


PUBLISHED = Setting()
INJECTED = ((0.2, 0.3), (0.2, 0.6), (0.5, 0.6), (0.5, 0.8), (0.8, 0.8))  # tau and until
FEW = (INJECTED[1], INJECTED[3])
MERGES = tuple(product(("sum", "mean", "copy"), (False, True)))  # and whether rows are renormalised
TAUS = (0.0, 0.2, 0.5, 0.8, "never")  # of the frontier
STARTS = (0.3, 0.5, 0.7)  # t_0 of SDEdit, and of its frontier
SWEPT: tuple[Kind, ...] = ("noun", "colour")  # kinds of edit whose frontier is drawn


class Work:
    """A scene on a track, and what its edits share."""

    def __init__(self, model: LatentDiffusion, scene: BenchmarkScene, track: Track):
        self.model, self.scene, self.track, self.seed = model, scene, track, scene.index
        self.tokens = [model.tokenizer.encode(prompt) for prompt in (scene.caption, scene.edited_caption)]
        self._inverted: dict[int, Inverted] = {}

    def sampling(self, guidance: float = PUBLISHED.guidance) -> Sampling:
        return Sampling(self.seed, STEPS[self.track], guidance, SAMPLER[self.track])

    @cached_property
    def z_0(self) -> Tensor:
        """The latent of the source."""
        if self.track == "real image":
            return self.model.encode_images(self.scene.image[None])
        return last(fixed_seed(self.model, self.tokens[:1], self.seed, **self.sampling().options()))

    @cached_property
    def source(self) -> Picture:
        return self.scene.image if self.track == "real image" else self.decoded(self.z_0)[0]

    @cached_property
    def mask(self) -> Bool[Tensor, "h w"]:
        """The latent positions of which a pixel changes, in the renderings."""
        return share(torch.from_numpy(self.scene.mask).double(), self.model.latent_shape[1:]) > 0

    def decoded(self, z_0: Tensor) -> list[Picture]:
        return list(self.model.decode(z_0))

    def returned(self, source: Picture) -> float:
        """The PSNR of a real image to that of its inversion's run, in dB; NaN for a generated one, which is its run."""
        return psnr(source, self.source) if self.track == "real image" else float("nan")

    def inverted(self, method: Method, guidance: float) -> Inverted:
        """The inversion of a real image; the steps backwards are made once for all guidances."""
        context, sampling = self.model.encode_tokens(self.tokens[:1]), self.sampling(guidance)
        if method == "edit-friendly":
            return invert_latent(self.model, self.z_0, context, method, sampling)
        iterations = 0 if method == "ddim" else FIXED_POINT
        if iterations not in self._inverted:
            self._inverted[iterations] = ddim(self.model, self.z_0, context, sampling, iterations)
        return corrected(self.model, self._inverted[iterations], context, method, guidance)


@dataclass(frozen=True)
class Made:
    """An edited image, and what `Work.returned` gives if the source was sampled beside it."""

    setting: Setting
    image: Picture
    returned: float = float("nan")


Run = Callable[[Work, Sequence[Setting]], Iterator[Made]]


@dataclass(frozen=True)
class Row:
    """A row of the tables: a method, its settings to choose from, and the kinds of edit and tracks that it is for."""

    name: str
    run: Run
    grid: tuple[Setting, ...] = (PUBLISHED,)
    kinds: tuple[Kind, ...] = ("noun", "colour", "place", "fog", "insertion", "style")
    tracks: tuple[Track, ...] = ("real image", "generated")
    every: int = 1  # the grid is tried on every scene of `dev`, on every second, or (0) on none
    first: int | None = None  # scenes of each kind that it is reported on, for a method that is slow
    swept: bool = False  # over tau, for the frontier
    merged: bool = False  # whether mergers are compared by it

    def applies(self, scene: BenchmarkScene, track: Track) -> bool:
        return track in self.tracks and scene.kind in self.kinds

    def settings(self, track: Track) -> tuple[Setting, ...]:
        """The settings to try; all generated sources have one guidance."""
        return tuple(dict.fromkeys(on_track(setting, track) for setting in self.grid))


def mergers(scene: BenchmarkScene, tokenizer: PromptTokenizer) -> tuple[Setting, ...]:
    """The default times, with and without renormalised rows; and with every merger where that changes the mapper: where
    words of different numbers of tokens are swapped."""
    source, target = map(tokenizer.encode, scene.captions[:2])
    tokens = lambda pair: [len(columns(*of)) for of in zip((source, target), pair)]
    differ = any(a != b for a, b in map(tokens, swaps(source, target)))
    return tuple(default(scene.kind, merge, rows) for merge, rows in (MERGES if differ else MERGES[:2]))


def default(kind: Kind, merge: Merge = "sum", renormalise: bool = False) -> Setting:
    """The times that edits of this kind have by default."""
    tau, until = FOR_OBJECTS if kind == "noun" else FOR_OTHERS
    return Setting(tau=tau, until=until, merge=merge, renormalise=renormalise)


def frontier(row: Row, setting: Setting) -> list[Setting]:
    """The points of a method's frontier: over tau, of SDEdit over t_0, else none."""
    if row.name == "SDEdit":
        return [replace(setting, t_0=t_0) for t_0 in STARTS]
    return [replace(setting, tau=tau) for tau in TAUS] if row.swept else []


def on_track(setting: Setting, track: Track) -> Setting:
    return setting if track == "real image" else replace(setting, guidance=PUBLISHED.guidance)


def last(states: Iterator[State]) -> Tensor:
    *_, state = states
    return state.z_t


def one_by_one(edit: Callable[[Work, Setting], Tensor]) -> Run:
    """A method that samples the target alone: (work, setting) -> its z_0, (1, c, h, w)."""

    def run(work: Work, settings: Sequence[Setting]) -> Iterator[Made]:
        for setting in settings:
            yield Made(setting, work.decoded(edit(work, setting))[0])

    return run


def ceiling(work: Work, setting: Setting) -> Tensor:
    return work.model.encode_images(work.scene.target[None])


def random(work: Work, setting: Setting) -> Tensor:
    how = work.sampling(setting.guidance).options()
    return last(fixed_seed(work.model, work.tokens[1:], work.seed + ANOTHER, **how))


def same_noise(work: Work, setting: Setting) -> Tensor:
    """The target's prompt from the source's noise, which of a real image is the inverted one."""
    how = work.sampling(setting.guidance).options()
    if work.track == "real image":
        how |= work.inverted("fixed-point", setting.guidance).options(1)
    return last(fixed_seed(work.model, work.tokens[1:], work.seed, **how))


def noised(work: Work, setting: Setting) -> Tensor:
    how = work.sampling(setting.guidance).options()
    how["steps"] = round(how["steps"] * setting.t_0)
    return last(sdedit(work.model, work.tokens[1:], work.z_0, setting.t_0, work.seed + ANOTHER, **how))


def inpainted(work: Work, setting: Setting) -> Tensor:
    how = work.sampling(setting.guidance).options()
    return last(inpaint(work.model, work.tokens[1:], work.z_0, work.mask, work.seed + ANOTHER, **how))


def published(work: Work, settings: Sequence[Setting]) -> Iterator[Made]:
    """Prompt-to-Prompt as in google/prompt-to-prompt, of a real image by direct inversion too."""
    mapper = "replace" if len({len(prompt.split()) for prompt in work.scene.captions[:2]}) == 1 else "refine"
    for setting in settings:
        how = work.sampling(setting.guidance).options()
        if work.track == "real image":
            how |= work.inverted("direct", setting.guidance).options(2)
        replaced = {"cross_replace_steps": fraction(setting.tau), "self_replace_steps": fraction(setting.until)}
        z = last(reference(work.model, work.tokens, mapper, work.seed, **replaced, **how))
        source, image = work.decoded(z)
        yield Made(setting, image, work.returned(source))


def fraction(time: Time) -> float:
    """How much of the steps, from the first, comes before a time: in decimals, as 1 - 0.8 is less than 0.2 in floats,
    and a fifth of 20 steps would be three."""
    return 0.0 if time == "never" else round(1 - time, 9)


def ours(method: Method, blend: bool = False) -> Run:
    """Prompt-to-Prompt; of a real image by a method of inversion."""

    def run(work: Work, settings: Sequence[Setting]) -> Iterator[Made]:
        together = lambda setting: (setting.guidance, str(setting.until))  # as targets of one run
        for _, group in groupby(sorted(settings, key=together), together):
            group = list(group)
            call = call_of(work, group, blend)
            inverted = work.inverted(method, group[0].guidance) if work.track == "real image" else None
            source, *images = work.decoded(last(call.run(call.p2p(work.model), inverted=inverted)))
            yield from (Made(s, image, work.returned(source)) for s, image in zip(group, images))

    return run


def call_of(work: Work, settings: Sequence[Setting], blend: bool) -> Call:
    """The call of settings with one guidance and one time of self-attention injection."""
    edits, (first, *_) = [edit_of(work, setting) for setting in settings], settings
    where = Region(region_of(work.scene)) if blend else None
    targets = tuple(Target.of(work.scene.edited_caption, edit, where) for edit in edits)
    sampling, until = work.sampling(first.guidance), SelfInjection(first.until)
    return Call(work.scene.caption, targets, until, sampling=sampling)


def edit_of(work: Work, setting: Setting) -> Edit:
    """The edit that is inferred from the captions."""
    parts = Edit.between(*work.tokens, Alpha(setting.tau)).parts
    merged = [replace(part, merge=setting.merge) if isinstance(part, Swap) else part for part in parts]
    return sum(merged[1:] + [Renormalise()] * setting.renormalise, merged[0])


def region_of(scene: BenchmarkScene) -> tuple[str, ...]:
    """The nouns of the thing that an edit changes or inserts."""
    before = [scene.things[scene.thing].noun] if scene.thing < len(scene.things) else []
    return tuple(dict.fromkeys([*before, scene.edited_things[scene.thing].noun]))


def grid(guidances: Sequence[float], injected: Sequence[tuple[float, float]]) -> tuple[Setting, ...]:
    return tuple(Setting(guidance, tau, until) for guidance, (tau, until) in product(guidances, injected))


THINGS: tuple[Kind, ...] = ("noun", "colour", "insertion")
REAL: tuple[Track, ...] = ("real image",)
ROWS = (
    Row("ceiling", one_by_one(ceiling), tracks=REAL, every=0),
    Row("no edit", one_by_one(lambda work, setting: work.z_0), every=0),
    Row("random noise", one_by_one(random), every=0),
    Row("fixed seed", one_by_one(same_noise), grid((2.0, 4.0), INJECTED[:1])),
    Row("SDEdit", one_by_one(noised), tuple(Setting(w, t_0=t_0) for w, t_0 in product((2.0, 4.0), STARTS)), every=2),
    Row("inpainting, true mask", one_by_one(inpainted), grid((2.0, 4.0), INJECTED[:1]), (*THINGS, "place"), REAL),
    Row("reference", published, grid((2.0, 4.0), FEW), every=2, swept=True),
    Row("ours", ours("direct"), grid((2.0, 4.0), INJECTED), swept=True, merged=True),
    Row("ours, local blend", ours("direct", blend=True), grid((2.0, 4.0), INJECTED), THINGS, swept=True),
    Row("ours, DDIM inversion", ours("ddim"), grid((1.0, 4.0), FEW), tracks=REAL, every=2),
    Row("ours, fixed point", ours("fixed-point"), grid((1.0, 4.0), FEW), tracks=REAL, every=2),
    Row("ours, negative prompt", ours("negative-prompt"), grid((1.5, 4.0), FEW), tracks=REAL, every=2),
    Row("ours, edit-friendly", ours("edit-friendly"), grid((2.0, 4.0), FEW), tracks=REAL, every=2),
    Row("ours, null text", ours("null-text"), tracks=REAL, every=0, first=2),
)
