"""Contrastive pre-training [C9]: a small CLIP, both towers from random weights, learns which caption a scene has."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ldm.contrastive import contrastive_loss
from ldm.helpers.files import save_atomically
from ldm.presets import CLIP_PRESETS
from ldm.tokenizer import CLIPTokenizer
from ldm.zoo.clip import CLIP, new_clip
from weights.load import SHIPPED_CLIPS, load_clip
from weights.training.data import held_out_scenes, render_all, training_scenes
from weights.training.trainer import Recipe, Trainer
from weights.training.world import COLOURS, NOUNS, Scene, Thing, caption, is_held_out

SCENES, HELD_OUT = 20_000, 1_500
CONFIG = CLIP_PRESETS["stickers-clip"]
FILE = SHIPPED_CLIPS["stickers-clip"]


class ClipLoss:
    """The contrastive loss of a batch of images and their captions, for the trainer.

    A batch holds one scene of each caption drawn, so it may be a little smaller than asked: two scenes with the same
    caption are both right for it, and the loss would count one of them as wrong.
    """

    def __init__(self, tokenizer: CLIPTokenizer, images: UInt8[np.ndarray, "n H W 3"], captions: list[str], batch: int):
        self.images, self.captions, self.batch = images, captions, batch
        self.ids: Int[Tensor, "n m"] = tokenizer.batch(captions)

    def pick(self, generator: torch.Generator) -> list[int]:
        """Scenes drawn without replacement; of those with the same caption the last one."""
        drawn = torch.randperm(len(self.images), generator=generator)[: self.batch].tolist()
        return list({self.captions[i]: i for i in drawn}.values())

    def __call__(self, model: CLIP, generator: torch.Generator) -> Float[Tensor, ""]:
        pick = self.pick(generator)
        images, texts = model.embed_images(self.images[pick]), model.embed_text(self.ids[pick])
        return contrastive_loss(images, texts, model.logit_scale.exp())


def train_clip(runs: Path, recipe: Recipe) -> None:
    """Run the stage `clip`: train on scenes without held-out pairs, write the averaged weights into the package, and
    measure the zero-shot classifier on other scenes."""
    scenes = training_scenes(SCENES)
    tokenizer = CLIPTokenizer.from_file(FILE.with_name("tokenizer.json"), CONFIG.text)
    loss = ClipLoss(tokenizer, render_all(scenes, "clip"), [caption(scene) for scene in scenes], recipe.batch)
    torch.manual_seed(recipe.seed)
    trainer = Trainer(new_clip(CONFIG), loss, recipe, runs / "clip")
    for _ in trainer.run():
        pass
    if trainer.step >= recipe.steps:
        weights = {name: tensor.half() for name, tensor in trainer.averaged.state_dict().items()}
        save_atomically(lambda part: save_file(weights, part), FILE)
        report()


def report() -> None:
    """Print how often the included CLIP, as a zero-shot classifier, finds the noun and the colour of the only thing in
    a scene that it was not trained on.

    "a photo of a cat" means one in its natural colours, as it does in the captions: of a blue one the noun is sought
    among "a photo of a blue ...".
    """
    clip, tokenizer = load_clip("stickers-clip", device="cpu")
    scenes = [scene for scene in held_out_scenes(HELD_OUT) if len(scene.things) == 1]
    images = render_all(scenes, "clip-held-out")
    nouns, colours = defaultdict(list), defaultdict(list)  # whether each is right, by the kind of scene
    for scene, image in zip(tqdm(scenes, "classifying", unit="scene"), images):
        thing = replace(scene.things[0], size=None, pattern=None)
        found = lambda things: classify(clip, tokenizer, image[None], things, scene.style)[0] == thing
        kind = f"{scene.style} of a thing of {'a named colour' if thing.colour else 'its own colours'}"
        nouns[kind].append(found([Thing(noun, thing.colour) for noun in NOUNS]))
        if thing.colour:
            pairs = "never trained together" if is_held_out(scene) else "trained together"
            colours[f"noun and colour {pairs}"].append(found([Thing(thing.noun, colour) for colour in COLOURS]))
    for what, among, found in (("nouns", NOUNS, nouns), ("colours", COLOURS, colours)):
        for kind, right in found.items():
            print(f"{kind}: {sum(right)} of {len(right)} {what} are found among {len(among)}")


def classify(
    clip: CLIP,
    tokenizer: CLIPTokenizer,
    images: UInt8[np.ndarray, "n H W 3"],
    things: list[Thing],
    style: str = "photo",
) -> list[Thing]:
    """The thing that each image shows, among these, by the prompts "a photo of a cat"."""
    ids = tokenizer.batch([caption(Scene((thing,), style=style, says_place=False)) for thing in things])
    return [things[i] for i in clip.score(images, ids).argmax(dim=1)]
