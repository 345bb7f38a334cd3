"""The small public models in one file each, as CompVis' own code saves them.

Written by walking diffusers' and transformers' modules in the order in which that code makes and numbers its own;
nothing of weights/key_names.py is used.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from tests.support.public_files import public_names, save
from tests.support.public_json import DATA
from tests.support.public_models import Public, Tensors, our_tensors

NAMES = DATA["compvis"]  # layers of a block, and what CompVis calls them
SCHEDULE_BUFFERS = NAMES["SCHEDULE_BUFFERS"]  # computed, never read


class Renaming:
    """Takes a module's tensors away, one by one, under other names."""

    def __init__(self, tensors: Tensors):
        self.left, self.renamed = dict(tensors), {}

    def move(self, old: str, new: str, shape: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> None:
        """The weight and the bias of a layer, as far as there are; `shape` is of the weight."""
        for leaf in ("weight", "bias"):
            if f"{old}.{leaf}" in self.left:
                tensor = self.left.pop(f"{old}.{leaf}")
                self.renamed[f"{new}.{leaf}"] = shape(tensor) if leaf == "weight" else tensor

    def move_each(self, old: str, new: str, layers: dict[str, str], **shape: Callable[[Tensor], Tensor]) -> None:
        for layer, theirs in layers.items():
            self.move(f"{old}.{layer}", f"{new}.{theirs}", **shape)

    def move_all(self, old: str, new: str) -> None:
        """What is inside a module, under the names that it has there."""
        for name in [name for name in self.left if name.startswith(f"{old}.")]:
            self.renamed[new + name.removeprefix(old)] = self.left.pop(name)

    def done(self) -> Tensors:
        assert not self.left, f"not moved: {list(self.left)}"
        return self.renamed


def compvis_unet(unet: UNet2DConditionModel | UNet2DModel) -> Tensors:
    """Blocks are counted in the order in which they are made, a change of resolution on the way down among them."""
    names = Renaming(unet.state_dict())
    names.move_each("time_embedding", "time_embed", {"linear_1": "0", "linear_2": "2"})
    names.move("conv_in", "input_blocks.0.0")
    count = 0
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            count += 1
            unet_block(unet, names, f"down_blocks.{i}", j, f"input_blocks.{count}")
        if block.downsamplers:
            count += 1
            names.move(f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{count}.0.op")
    if unet.mid_block:
        names.move_each("mid_block.resnets.0", "middle_block.0", NAMES["UNET_RESIDUAL"])
        unet_attention(unet, names, "mid_block.attentions.0", "middle_block.1")
        names.move_each("mid_block.resnets.1", "middle_block.2", NAMES["UNET_RESIDUAL"])
    count = -1
    for i, block in enumerate(unet.up_blocks):
        for j in range(len(block.resnets)):
            count += 1
            unet_block(unet, names, f"up_blocks.{i}", j, f"output_blocks.{count}")
        if block.upsamplers:  # in the last block, behind what else is there
            place = 2 if hasattr(block, "attentions") else 1
            names.move(f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{count}.{place}.conv")
    names.move("conv_norm_out", "out.0")
    names.move("conv_out", "out.2")
    return names.done()


def unet_block(unet: nn.Module, names: Renaming, level: str, j: int, block: str) -> None:
    names.move_each(f"{level}.resnets.{j}", f"{block}.0", NAMES["UNET_RESIDUAL"])
    if hasattr(unet.get_submodule(level), "attentions"):
        unet_attention(unet, names, f"{level}.attentions.{j}", f"{block}.1")


def unet_attention(unet: nn.Module, names: Renaming, old: str, new: str) -> None:
    """A transformer keeps its names. Without prompts, queries, keys and values are one convolution over a sequence,
    first all three of the first head, then of the next."""
    if isinstance(unet, UNet2DConditionModel):
        names.move_all(old, new)
        return
    heads = unet.get_submodule(old).heads
    names.move(f"{old}.group_norm", f"{new}.norm")
    for leaf in ("weight", "bias"):
        q, k, v = (names.left.pop(f"{old}.to_{which}.{leaf}").chunk(heads) for which in "qkv")
        rows = torch.cat([rows for head in zip(q, k, v) for rows in head])
        names.renamed[f"{new}.qkv.{leaf}"] = rows[:, :, None] if leaf == "weight" else rows
    names.move(f"{old}.to_out.0", f"{new}.proj_out", lambda weight: weight[:, :, None])


def compvis_autoencoder(autoencoder: AutoencoderKL | VQModel) -> Tensors:
    """The decoder's levels are counted from the full resolution, as the encoder's; attention is by 1x1 convolutions."""
    names = Renaming(autoencoder.state_dict())
    levels = len(autoencoder.config.block_out_channels)
    for side, way in (("encoder", "down"), ("decoder", "up")):
        blocks = {(f"{side}.mid_block", 0): (f"{side}.mid", "_1"), (f"{side}.mid_block", 1): (f"{side}.mid", "_2")}
        for i, block in enumerate(getattr(autoencoder, side).get_submodule(f"{way}_blocks")):
            old, new = f"{side}.{way}_blocks.{i}", f"{side}.{way}.{i if way == 'down' else levels - 1 - i}"
            blocks |= {(old, j): (new, f".{j}") for j in range(len(block.resnets))}
            names.move(f"{old}.{way}samplers.0.conv", f"{new}.{way}sample.conv")
        for (old, j), (new, number) in blocks.items():
            names.move_each(f"{old}.resnets.{j}", f"{new}.block{number}", NAMES["RESIDUAL"])
            names.move(f"{old}.attentions.{j}.group_norm", f"{new}.attn{number}.norm")
            as_convolution = lambda weight: weight[:, :, None, None]
            names.move_each(f"{old}.attentions.{j}", f"{new}.attn{number}", NAMES["ATTENTION"], shape=as_convolution)
        names.move_each(side, side, {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"})
    for same in ("quant_conv", "post_quant_conv", "quantize.embedding"):
        names.move(same, same)
    return names.done()


def compvis_text(module: nn.Module) -> Tensors:
    """OpenAI's CLIP is transformers'; OpenCLIP's and BERT are others'."""
    if isinstance(module, LDMBertModel):
        return {f"transformer.{name}": tensor for name, tensor in compvis_bert(module).items()}
    if module.config.hidden_act == "quick_gelu":
        return {f"transformer.{name}": tensor for name, tensor in public_names(module).items()}
    return {f"model.{name}": tensor for name, tensor in open_clip(module).items()}


def open_clip(module: CLIPTextModel) -> Tensors:
    """With a last layer that is not used, and what compares texts with pictures."""
    names = Renaming(our_tensors(module))
    width, layers = module.config.hidden_size, module.config.num_hidden_layers
    names.move("embeddings.token_embedding", "token_embedding")
    names.renamed["positional_embedding"] = names.left.pop("embeddings.position_embedding.weight")
    for i in range(layers):
        old, new = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        for leaf in ("weight", "bias"):
            rows = [names.left.pop(f"{old}.self_attn.{which}_proj.{leaf}") for which in "qkv"]
            names.renamed[f"{new}.attn.in_proj_{leaf}"] = torch.cat(rows)
        names.move_each(old, new, NAMES["CLIP_LAYER"])
    names.move("final_layer_norm", "ln_final")
    tensors = names.done()
    last = {name: tensor for name, tensor in tensors.items() if name.startswith("transformer.resblocks.0.")}
    tensors |= {name.replace(".0.", f".{layers}.", 1): tensor + 1 for name, tensor in last.items()}
    return tensors | {"text_projection": torch.ones(width, width), "logit_scale": torch.tensor(4.6)}


def compvis_bert(module: LDMBertModel) -> Tensors:
    """Attention and feed-forward are counted as layers, each behind its norm."""
    names = Renaming({name.removeprefix("model."): tensor for name, tensor in module.state_dict().items()})
    names.move("embed_tokens", "token_emb")
    names.move("embed_positions", "pos_emb.emb")
    for i in range(module.config.encoder_layers):
        names.move_each(f"layers.{i}", f"attn_layers.layers.{2 * i}", NAMES["BERT_ATTENTION"])
        names.move_each(f"layers.{i}", f"attn_layers.layers.{2 * i + 1}", NAMES["BERT_FORWARD"])
    names.move("layer_norm", "norm")
    names.move("to_logits", "to_logits")
    return names.done()


def compvis(public: Public, averaged: nn.Module | None = None) -> Tensors:
    """All of a training's state that a published file has; with the averages of the UNet, if they are given."""
    parts = {"model.diffusion_model": compvis_unet(public.parts["unet"])}
    parts["first_stage_model"] = compvis_autoencoder(public.parts["autoencoder"]) | training_losses()
    if "text_encoder" in public.parts:
        parts["cond_stage_model"] = compvis_text(public.parts["text_encoder"])
    tensors = {f"{prefix}.{name}": tensor for prefix, part in parts.items() for name, tensor in part.items()}
    tensors |= {name: torch.full((1000,), float("nan")) for name in SCHEDULE_BUFFERS}
    tensors |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7, dtype=torch.int32)}
    unet = compvis_unet(averaged) if averaged else {}
    return tensors | {f"model_ema.diffusion_model{name.replace('.', '')}": tensor for name, tensor in unet.items()}


def training_losses() -> Tensors:
    shapes = {
        "logvar": (),
        "discriminator.main.0.weight": (8, 3, 4, 4),
        "perceptual_loss.lin0.model.1.weight": (1, 64, 1, 1),
    }
    return {f"loss.{name}": torch.zeros(shape) for name, shape in shapes.items()}


def save_checkpoint(tensors: Tensors, path: Path) -> Path:
    """A .safetensors file, or a trainer's checkpoint."""
    if path.suffix == ".ckpt":
        state = {"epoch": 4, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": tensors}
        torch.save(state, path)
    else:
        save(tensors, path)
    return path
