"""What the page knows of the model and of the method, as JSON: settings, word lists, defaults and presets."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import PromptTokenizer
from p2p import reading
from p2p.call import Sampling
from p2p.switch_times import FOR_OBJECTS, FOR_OTHERS, SwitchTimes, switch_times

FOLDER = Path(__file__).parents[2] / "site" / "model"  # of everything that is built for the page
STEPS = 20


@dataclass(frozen=True)
class Preset:
    """An edit of the page's list. Seeds were chosen by eye."""

    title: str
    source: str
    target: str
    seed: int
    tau: float | None = None  # None: by its prompts
    weights: dict[str, float] = field(default_factory=dict)
    blend: tuple[str, ...] = ()

    def times(self, tokenizer: PromptTokenizer) -> SwitchTimes:
        """The switch times of its prompts, with its own tau if it has one."""
        times = switch_times(*map(tokenizer.encode, (self.source, self.target)))
        return times if self.tau is None else times._replace(tau=self.tau)


PRESETS = (
    Preset("One word for another", "a photo of a cat on the grass", "a photo of a dog on the grass", 9),
    Preset(
        "Two words for one",
        "a photo of an orange cat on the grass",
        "a photo of a big striped cat on the grass",
        9,
        tau=0.5,
    ),
    Preset("Another colour", "a photo of a red car on the street", "a photo of a blue car on the street", 4),
    Preset(
        "A word added, kept to its object",
        "a photo of a house on the grass",
        "a photo of a pink house on the grass",
        2,
        blend=("house",),
    ),
    Preset(
        "A word's weight",
        "a photo of a tree on the grass in fog",
        "a photo of a tree on the grass in fog",
        5,
        weights={"fog": 3.0},
    ),
    Preset(
        "Another style",
        "a photo of a castle on the grass",
        "a pencil drawing of a castle on the grass",
        1,
        tau=0.4,
    ),
)


def world(model: LatentDiffusion) -> dict[str, Any]:
    """The whole of it; raises ValueError for a model that the page's JavaScript can't sample."""
    config, schedule, text = model.config, model.config.schedule, model.config.text
    told = (schedule.beta_schedule, schedule.parameterisation, schedule.spacing, schedule.last)
    if told != ("scaled_linear", "v", "trailing", 0) or text.pad != text.eos:
        raise ValueError(f"the page samples the included model only, not {config.name}")
    vocabulary = model.vocabulary
    return {
        "schedule": {"T": schedule.T, "beta_start": schedule.beta_start, "beta_end": schedule.beta_end},
        "text": {"length": text.length, "width": text.width, "bos": text.bos, "eos": text.eos},
        "latent": model.latent_shape,
        "imageSize": config.image_size,
        "vocabulary": {"grammar": vocabulary.grammar, "kinds": vocabulary.kinds},
        "lists": {
            "placeLinks": sorted(reading.PLACE_LINKS),
            "determiners": sorted(reading.DETERMINERS),
            "beginners": sorted(reading.BEGINNERS),
            "links": sorted(reading.LINKS),
            "compoundLinks": sorted(" ".join(link) for link in reading.COMPOUND_LINKS),
            "objectVerbs": sorted(reading.OBJECT_VERBS),
            "verbs": sorted(reading.VERBS),
        },
        "defaults": {"steps": STEPS, "guidance": Sampling().guidance},
        "switchTimes": {"objects": FOR_OBJECTS._asdict(), "others": FOR_OTHERS._asdict()},
        "presets": [asdict(preset) | preset.times(model.tokenizer)._asdict() for preset in PRESETS],
    }
