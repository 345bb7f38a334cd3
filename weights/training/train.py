"""Train the stickers model: `python -m weights.training.train --help`."""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("weights.training.train"))

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ldm.autoencoder import Autoencoder
from ldm.helpers.files import save_atomically
from ldm.pipeline import LatentDiffusion
from ldm.presets import AUTOENCODERS, PRESETS
from ldm.quantize import CodebookAverages
from ldm.tokenizer import CLIPTokenizer
from weights.load import load
from weights.training.art import cache_dir
from weights.training.data import centres, held_out_scenes, render_all, training_scenes
from weights.training.train_autoencoder import CROP, autoencoder_loss, latent_scale, mean_psnr, random_crops, vq_loss
from weights.training.train_classes import train_classes
from weights.training.train_clip import train_clip
from weights.training.train_diffusion import IN_PIECES, DiffusionLoss, encode_all, new_model
from weights.training.trainer import Loss, Recipe, Trainer
from weights.training.world import VOCABULARY, Scene, caption

SHIPPED = Path(__file__).parents[1] / "stickers"
CONFIG = PRESETS["stickers"]  # except the latent scale, which is measured

RECIPES = {
    "autoencoder": Recipe(steps=3600, batch=16, lr=2e-3, warmup=100, decay=0.5, ema=0.998),
    "decoder": Recipe(steps=2000, batch=16, lr=1e-3, warmup=100, decay=0.5, ema=0.998),
    "vq": Recipe(steps=3600, batch=16, lr=2e-3, warmup=100, decay=0.5, ema=0.998),
    "diffusion": Recipe(steps=25_000, batch=64, lr=1e-3, warmup=200, decay=0.3, ema=0.999),
    "clip": Recipe(steps=1300, batch=128, lr=1e-2, warmup=20, decay=0.5, ema=0.98),
    "classes": Recipe(steps=400, batch=32, lr=2e-2, warmup=20, decay=0.5, ema=0.99, weight_decay=0.0),
}
SCENES = 40_000  # rendered for training
LATENTS = 20_000  # of these encoded for the diffusion model: encoding all of them is not worth the time
HARD_NOUNS, HARD_STYLES = {"bicycle", "boat", "fish", "turtle"}, {"pencil drawing"}  # worst at step 10,500
SHEET = (  # prompts of the sample sheet that training writes periodically
    "a photo of a cat on the grass",
    "a photo of a red car on the beach",
    "a photo of a butterfly at night",
    "a pencil drawing of a castle in the desert",
    "a photo of a blue elephant in the sea",
    "a photo of a house next to a tree on the grass",
    "a photo of a green apple above a ball on a table",
    "a photo of a lion on the street in fog",
    "a painting of a rabbit in the snow",
    "a photo of a big pizza on a table",
    "a photo of a small yellow duck in the sea",
    "a photo of a bicycle on the street with snowflakes",
    "a photo of a striped hat on the beach",
    "a photo of a cake with sprinkles on a table",
    "a photo of a frog next to a mushroom on the grass",
    "a photo of a purple umbrella in the desert",
)

HELP = """\
Train the included model from scratch on a laptop CPU.

Stages, in this order (each resumes where it stopped; Ctrl-C saves first; a stage whose previous stage has not been run
here starts from the included weights):
  autoencoder   encoder and decoder, on crops of rendered scenes
  diffusion     text encoder and UNet on the autoencoder's latents (Algorithm 1)
  decoder       the decoder only, for longer; the latents, and so the diffusion model, stay valid
  vq            the autoencoder with a codebook instead of the KL, for comparison; independent of the other stages
  export        write config, tokenizer and half-precision weights into the package
  clip          a small CLIP on rendered scenes and their captions; minutes; writes it into the package
  classes       a table of the nouns in the place of the exported text encoder; minutes; writes it into the package
"""


def in_bfloat16(loss: Loss) -> Loss:
    """The loss with its products and convolutions in bfloat16: a step of the autoencoder then takes 0.6 of the time on
    a processor with AMX. The weights and their updates stay in float32."""

    def computed(model: nn.Module, generator: torch.Generator) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss(model, generator)

    return computed


def train_autoencoder(runs: Path, name: str, steps: int | None, from_shipped: bool) -> None:
    """Run the stage `autoencoder` or, with the encoder frozen, `decoder`."""
    recipe = dataclasses.replace(RECIPES[name], steps=steps or RECIPES[name].steps)
    scenes = training_scenes(SCENES)
    pictures, things = np.array(render_all(scenes, "training")), centres(scenes)
    held_out = render_all(held_out_scenes(500), "held-out")
    if name == "decoder":
        model = trained_autoencoder(runs, "autoencoder")
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    elif from_shipped:
        model = trained_autoencoder(runs)
    else:
        torch.manual_seed(recipe.seed)
        model = Autoencoder(CONFIG.autoencoder).to(memory_format=torch.channels_last)

    def loss(model: Autoencoder, generator: torch.Generator) -> torch.Tensor:
        x = random_crops(pictures, things, recipe.batch, generator)
        shape = (recipe.batch, model.config.latent_channels, CROP // model.config.factor, CROP // model.config.factor)
        return autoencoder_loss(model, x, torch.randn(shape, generator=generator))

    trainer = Trainer(model, in_bfloat16(loss), recipe, runs / name)
    for step in trainer.run():
        print(f"\nstep {step}: {mean_psnr(trainer.averaged, held_out[:100]):.2f} dB on 100 held-out scenes")


def train_vq(runs: Path, steps: int | None) -> None:
    """Run the stage `vq`, where moving averages train the codebook instead of its gradient.

    Always starts from random weights: the averages are not included, and without them every entry would be redrawn.
    """
    recipe = dataclasses.replace(RECIPES["vq"], steps=steps or RECIPES["vq"].steps)
    scenes = training_scenes(SCENES)
    pictures, things = np.array(render_all(scenes, "training")), centres(scenes)
    held_out = render_all(held_out_scenes(500), "held-out")

    def loss(model: nn.ModuleDict, generator: torch.Generator) -> torch.Tensor:
        x = random_crops(pictures, things, recipe.batch, generator)
        return vq_loss(model["autoencoder"], model["averages"], x, generator)

    torch.manual_seed(recipe.seed)
    model = Autoencoder(AUTOENCODERS["stickers-vq"]).to(memory_format=torch.channels_last)
    model.quantize.requires_grad_(False)
    both = nn.ModuleDict({"autoencoder": model, "averages": CodebookAverages(model.quantize)})
    trainer = Trainer(both, loss, recipe, runs / "vq")
    for step in trainer.run():
        found = mean_psnr(trainer.averaged["autoencoder"], held_out[:100])
        print(f"\nstep {step}: {found:.2f} dB on 100 held-out scenes")


def trained_autoencoder(runs: Path, *stages: str) -> Autoencoder:
    """The averaged autoencoder of the first of these stages that has run, with its scale measured; else the included
    one."""
    for name in stages:
        if ran(runs, name):
            model = Autoencoder(CONFIG.autoencoder).to(memory_format=torch.channels_last)
            model.load_state_dict(state_of(runs, name)["averaged"])
            if name == "decoder" and ran(runs, "autoencoder"):
                check_encoder(model, state_of(runs, "autoencoder")["averaged"], runs)
            scale = latent_scale(model, render_all(training_scenes(SCENES), "training")[:500])
            model.config = dataclasses.replace(model.config, scale=round(scale, 4))
            return model
    print("going on from the shipped autoencoder")
    return load("stickers", device="cpu").autoencoder.requires_grad_(True)


def check_encoder(model: Autoencoder, trained: dict[str, torch.Tensor], runs: Path) -> None:
    """Raises ValueError if the stage `decoder` started from another autoencoder than the last one trained."""
    if not all(tensor.equal(trained[f"encoder.{name}"]) for name, tensor in model.encoder.state_dict().items()):
        raise ValueError(f"{runs / 'decoder'} belongs to an autoencoder that has been trained anew since: delete it")


def ran(runs: Path, name: str) -> bool:
    return (runs / name / "state.pt").exists()


def state_of(runs: Path, name: str) -> dict:
    """The state saved by the trainer of the stage `name`."""
    return torch.load(runs / name / "state.pt", weights_only=True)


def halves(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.half().contiguous() for name, tensor in tensors.items()}


def networks(from_shipped: bool) -> nn.ModuleDict:
    """The initial text encoder and UNet: random, or the included ones."""
    model = new_model(CONFIG)
    if from_shipped:
        shipped = load("stickers")
        for name, part in (("text_encoder", shipped.text_encoder), ("unet", shipped.unet)):
            model[name].load_state_dict(part.state_dict())
    return model


def make_tokenizer() -> CLIPTokenizer:
    captions = [caption(scene) for scene in training_scenes(20_000)]
    return CLIPTokenizer.train(captions, CONFIG.text, IN_PIECES)


def assemble(autoencoder: Autoencoder, networks: nn.ModuleDict, tokenizer: CLIPTokenizer) -> LatentDiffusion:
    config = dataclasses.replace(CONFIG, autoencoder=autoencoder.config)
    return LatentDiffusion(config, tokenizer, networks["text_encoder"], networks["unet"], autoencoder)


def shares(scenes: list[Scene]) -> list[int]:
    """Indices of scenes to sample uniformly; those with hard nouns and styles occur twice."""
    hard = [s.style in HARD_STYLES or any(thing.noun in HARD_NOUNS for thing in s.things) for s in scenes]
    return [i for i, twice in enumerate(hard) for _ in range(1 + twice)]


def train_diffusion(runs: Path, steps: int | None, from_shipped: bool) -> None:
    """Run the stage `diffusion`: Algorithm 1, with periodic sample sheets."""
    recipe = dataclasses.replace(RECIPES["diffusion"], steps=steps or RECIPES["diffusion"].steps)
    scenes = training_scenes(SCENES)
    autoencoder = trained_autoencoder(runs, "autoencoder").requires_grad_(False)
    latents = encode_all(autoencoder, render_all(scenes, "training")[:LATENTS])
    tokenizer, drawn = make_tokenizer(), shares(scenes[:LATENTS])
    loss = DiffusionLoss(CONFIG, tokenizer, latents[drawn], [caption(scenes[i]) for i in drawn], recipe.batch)
    trainer = Trainer(networks(from_shipped), in_bfloat16(loss), recipe, runs / "diffusion")
    for step in trainer.run():
        if step % 1000 == 0 or step == recipe.steps:
            model = assemble(autoencoder, trainer.averaged, tokenizer)
            pictures = model.generate(list(SHEET), list(range(len(SHEET))))
            grid = rearrange(pictures, "(r c) h w k -> (r h) (c w) k", c=4)
            Image.fromarray(grid).save(runs / "diffusion" / f"samples-{step:06d}.png")


def export(runs: Path) -> None:
    """Run the stage `export`: write config.json, tokenizer.json, words.json, model.safetensors and the logs, each whole
    or not at all; and vq.safetensors, if the stage `vq` has run."""
    autoencoder = trained_autoencoder(runs, "decoder", "autoencoder")
    if not ran(runs, "diffusion"):
        raise ValueError(f"no run in {runs / 'diffusion'}: run the stage 'diffusion' first")
    tensors = {f"autoencoder.{name}": tensor for name, tensor in autoencoder.state_dict().items()}
    state = state_of(runs, "diffusion")
    tensors |= state["averaged"]
    config, tokenizer = dataclasses.replace(CONFIG, autoencoder=autoencoder.config), make_tokenizer()
    save_atomically(lambda part: save_file(halves(tensors), part), SHIPPED / "model.safetensors")
    save_atomically(tokenizer.save, SHIPPED / "tokenizer.json")
    save_atomically(lambda part: part.write_text(config.to_json() + "\n"), SHIPPED / "config.json")
    save_atomically(lambda part: part.write_text(VOCABULARY.to_json() + "\n"), SHIPPED / "words.json")
    if ran(runs, "vq"):
        tensors_vq = {
            name.removeprefix("autoencoder."): tensor
            for name, tensor in state_of(runs, "vq")["averaged"].items()
            if name.startswith("autoencoder.")
        }
        save_atomically(lambda part: save_file(halves(tensors_vq), part), SHIPPED / "vq.safetensors")
    for name in ("autoencoder", "decoder", "diffusion", "vq"):
        log = runs / name / "log.csv"
        if log.exists():
            save_atomically(lambda part: part.write_text(log.read_text()), SHIPPED / f"log-{name}.csv")
    shipped, held_out = load("stickers", device="cpu"), render_all(held_out_scenes(500), "held-out")
    figures = {
        "diffusion_steps": state["step"],
        "psnr_db_500_held_out": round(mean_psnr(shipped.autoencoder, held_out), 2),
        "megabytes": round(sum(file.stat().st_size for file in SHIPPED.glob("*.safetensors")) / 1e6, 1),
    }
    print(json.dumps(figures, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=[*RECIPES, "export"])
    parser.add_argument(
        "--steps", type=int, help="train up to this step instead of the recipe's last; the rate decays towards it"
    )
    parser.add_argument(
        "--from-shipped",
        action="store_true",
        help="start the autoencoder or the diffusion model from the included weights, not from random ones",
    )
    parser.add_argument("--runs", type=Path, default=cache_dir() / "runs", help="folder of training runs (%(default)s)")
    args = parser.parse_args()
    if args.steps is not None and (args.steps < 1 or args.stage == "export"):
        parser.error(f"--steps must be at least 1, and export takes none: got {args.steps} for {args.stage}")
    if args.from_shipped and args.stage not in ("autoencoder", "diffusion"):
        parser.error(f"--from-shipped is for autoencoder and diffusion, not for {args.stage}")
    if args.from_shipped and ran(args.runs, args.stage):
        parser.error(f"{args.runs / args.stage} holds a run, which goes on: leave --from-shipped out, or give --runs")
    match args.stage:
        case "autoencoder" | "decoder":
            train_autoencoder(args.runs, args.stage, args.steps, args.from_shipped)
        case "vq":
            train_vq(args.runs, args.steps)
        case "classes":
            train_classes(
                args.runs, dataclasses.replace(RECIPES["classes"], steps=args.steps or RECIPES["classes"].steps)
            )
        case "clip":
            train_clip(args.runs, dataclasses.replace(RECIPES["clip"], steps=args.steps or RECIPES["clip"].steps))
        case "diffusion":
            train_diffusion(args.runs, args.steps, args.from_shipped)
        case "export":
            export(args.runs)
