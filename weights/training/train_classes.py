"""Algorithm 1 [D15] on theta = a table of classes: the included UNet, frozen, learns what `cat` alone stands for."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ldm.class_embedder import ClassEmbedder, ClassTokenizer
from ldm.helpers.files import save_atomically
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from weights.load import SHIPPED, load, load_clip
from weights.training.art import load_art
from weights.training.data import render_all, training_scenes
from weights.training.judge import read
from weights.training.train_clip import classify
from weights.training.train_diffusion import DiffusionLoss, encode_all
from weights.training.trainer import Recipe, Trainer
from weights.training.world import NOUNS, Scene, Thing

SCENES = 12_000  # of which 2,826 are photos of one thing in its natural look
CONFIG = PRESETS["stickers-classes"].text
FOLDER = SHIPPED["stickers-classes"]
SEEDS = range(2)  # of the images by which the table is judged


def is_plain(scene: Scene) -> bool:
    """True for a photo of one thing in its natural colours; the class leaves open its size, the place and weather."""
    thing = scene.things[0]
    return len(scene.things) == 1 and scene.style == "photo" and thing.colour is None and thing.pattern is None


def train_classes(runs: Path, recipe: Recipe) -> None:
    """Run the stage `classes`: train the table for the included UNet, write it into the package, and judge it.

    A run belongs to one UNet: once the included one has changed, the same command begins a new run.
    """
    model = load("stickers", device="cpu")
    scenes = list(filter(is_plain, training_scenes(SCENES)))
    latents = encode_all(model.autoencoder, render_all(scenes, "classes"))
    table = ClassEmbedder(CONFIG)
    empty = model.encode_prompts([""])[0, : CONFIG.length]  # every class starts as the empty prompt
    with torch.no_grad():
        table.embedding.weight.copy_(empty.repeat(CONFIG.classes + 1, 1))
    nouns = [scene.things[0].noun for scene in scenes]
    loss = DiffusionLoss(model.config, ClassTokenizer(tuple(NOUNS), CONFIG), latents, nouns, recipe.batch)
    parts = nn.ModuleDict({"text_encoder": table, "unet": model.unet})
    of_unet = hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()[:12]
    trainer = Trainer(parts, loss, recipe, runs / f"classes-{of_unet}")
    for _ in trainer.run():
        pass
    if trainer.step >= recipe.steps:
        rows = trainer.averaged["text_encoder"].embedding.weight.half()
        save_atomically(lambda part: save_file({"embedding.weight": rows}, part), FOLDER / "classes.safetensors")
        number = len(NOUNS) * len(SEEDS)
        for reader, wrong in misread(load("stickers-classes", device="cpu")).items():
            print(f"{number - len(wrong)} of {number} images show their class to {reader}; {wrong=}")


def misread(model: LatentDiffusion) -> dict[str, list[tuple[str, int, str]]]:
    """Each class and seed whose image shows another noun, and that noun, to the judge and to the small CLIP."""
    art, (clip, tokenizer) = load_art(), load_clip("stickers-clip", device="cpu")
    wrong = {"the judge": [], "the small CLIP": []}
    for noun in NOUNS:
        images = model.generate([noun] * len(SEEDS), list(SEEDS))
        read_as = [read(image, art, (Scene((Thing(noun),)),)).found[0].thing for image in images]
        seen_as = classify(clip, tokenizer, images, [Thing(other) for other in NOUNS])
        for misses, things in zip(wrong.values(), (read_as, seen_as)):
            misses += [(noun, seed, thing.noun) for seed, thing in zip(SEEDS, things) if thing.noun != noun]
    return wrong
