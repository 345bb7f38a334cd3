"""Models as the hub has them, small and with random weights.

Their modules are diffusers' and transformers' own, made from the public JSON files with smaller numbers in them.
public_files.py and compvis_files.py have the two layouts of files that they are published in.
"""

from functools import cache
from typing import NamedTuple

from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from ldm.config import (
    AutoencoderConfig,
    BertConfig,
    ModelConfig,
    ScheduleConfig,
    TextConfig,
    UNetConfig,
    VisionConfig,
)
from ldm.config import CLIPConfig as OurCLIPConfig
from tests.support.public_json import (
    DDIM_V,
    FIRST_DDIM,
    NO_CHECKER,
    PNDM,
    SD_INDEX,
    SUPER_RESOLUTION_DDIM,
    WITH,
    WITHOUT,
    WORDPIECES,
    autoencoder_json,
    bert_json,
    small_clip,
    text_json,
    unet_json,
)
from tests.support.random_models import randomise

Tensors = dict[str, Tensor]


class Public(NamedTuple):
    """A model of the hub: what its JSON files say, what they mean in our terms, and its parts by our names."""

    files: dict[str, dict]
    config: ModelConfig
    parts: dict[str, nn.Module]

    def folder_of(self, part: str) -> str:
        names = {"unet": ("unet",), "autoencoder": ("vae", "vqvae"), "text_encoder": ("text_encoder", "bert")}
        return next(name for name in names[part] if f"{name}/config.json" in self.files)

    def tensors(self) -> Tensors:
        """What our model should hold."""
        return {
            f"{part}.{name}": tensor
            for part, module in self.parts.items()
            for name, tensor in our_tensors(module).items()
        }


def our_tensors(module: nn.Module) -> Tensors:
    tensors = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("position_ids")}
    if isinstance(module, LDMBertModel):
        return {name.removeprefix("model."): t for name, t in tensors.items() if not name.startswith("to_logits.")}
    # before 5.6, transformers put one more module around the encoder
    return {name.removeprefix("text_model."): t for name, t in tensors.items()} if is_text(module) else tensors


def is_text(module: nn.Module) -> bool:
    return isinstance(module, CLIPTextModel)


def sd1(seed: int = 0) -> Public:
    """Stable Diffusion 1: OpenAI's text encoder, 1x1 convolutions around a transformer, the last level without."""
    files = {
        "model_index.json": SD_INDEX,
        "scheduler/scheduler_config.json": PNDM,
        "unet/config.json": unet_json(
            [WITH[0], WITH[0], WITHOUT[0]], [WITHOUT[1], WITH[1], WITH[1]], [32, 64, 64], cross_attention_dim=32
        ),
        "vae/config.json": autoencoder_json([32, 64, 64]),
        "text_encoder/config.json": text_json(),
    }
    config = ModelConfig(
        name="sd1",
        image_size=32,
        schedule=ScheduleConfig(spacing="leading", offset=1, last=1),
        autoencoder=AutoencoderConfig(channels=(32, 64, 64)),
        unet=UNetConfig(channels=(32, 64, 64), attention=(True, True, False), heads=(8, 8, 8), context_width=32),
        text=TextConfig(vocabulary=len(small_clip()[0]), width=32, layers=2, heads=4, hidden=48),
    )
    return Public(files, config, parts_of(files, seed))


def sd2(seed: int = 0) -> Public:
    """Stable Diffusion 2.1: OpenCLIP's text encoder, Linear around a transformer, a number of heads per level, v."""
    files = {
        "model_index.json": SD_INDEX | NO_CHECKER | {"scheduler": ["diffusers", "DDIMScheduler"]},
        "scheduler/scheduler_config.json": DDIM_V,
        "unet/config.json": unet_json(
            [WITH[0], WITH[0], WITHOUT[0]],
            [WITHOUT[1], WITH[1], WITH[1]],
            [32, 64, 96],
            attention_head_dim=[2, 4, 6],
            cross_attention_dim=64,
            use_linear_projection=True,
            sample_size=12,
            upcast_attention=True,
        ),
        "vae/config.json": autoencoder_json([32, 64], norm_num_groups=32, sample_size=768, scaling_factor=0.2),
        "text_encoder/config.json": text_json(
            hidden_act="gelu", hidden_size=64, intermediate_size=80, projection_dim=512, torch_dtype="float16"
        ),
    }
    config = ModelConfig(
        name="sd2",
        image_size=24,
        schedule=ScheduleConfig(spacing="leading", offset=1, last=1, parameterisation="v"),
        autoencoder=AutoencoderConfig(channels=(32, 64), scale=0.2),
        unet=UNetConfig(
            channels=(32, 64, 96),
            attention=(True, True, False),
            heads=(2, 4, 6),
            context_width=64,
            linear_projection=True,
        ),
        text=TextConfig(
            vocabulary=len(small_clip()[0]), width=64, layers=2, heads=4, hidden=80, activation="gelu", pad="!"
        ),
    )
    return Public(files, config, parts_of(files, seed))


def bk_sdm(seed: int = 0) -> Public:
    """BK-SDM-Tiny: three levels, all with attention, one residual block in each, no middle."""
    files = {
        "model_index.json": SD_INDEX | NO_CHECKER,
        "scheduler/scheduler_config.json": PNDM,
        "unet/config.json": unet_json(
            [WITH[0]] * 3,
            [WITH[1]] * 3,
            [32, 64, 64],
            cross_attention_dim=32,
            layers_per_block=1,
            mid_block_type=None,
            use_linear_projection=False,
        ),
        "vae/config.json": autoencoder_json([32, 64], scaling_factor=0.18215),
        "text_encoder/config.json": text_json(),
    }
    config = ModelConfig(
        name="bk-sdm",
        image_size=16,
        schedule=ScheduleConfig(spacing="leading", offset=1, last=1),
        autoencoder=AutoencoderConfig(channels=(32, 64)),
        unet=UNetConfig(
            channels=(32, 64, 64), layers=1, attention=(True,) * 3, heads=(8, 8, 8), context_width=32, mid=False
        ),
        text=TextConfig(vocabulary=len(small_clip()[0]), width=32, layers=2, heads=4, hidden=48),
    )
    return Public(files, config, parts_of(files, seed))


def text2im(seed: int = 0) -> Public:
    """The latent diffusion paper's text to image: its own BERT, folders of other names, nothing said of the prompt's
    width, which is then 1280."""
    files = {
        "model_index.json": {
            "_class_name": "LDMTextToImagePipeline",
            "_diffusers_version": "0.0.4",
            "bert": ["latent_diffusion", "LDMBertModel"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "tokenizer": ["transformers", "BertTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vqvae": ["diffusers", "AutoencoderKL"],
        },
        "scheduler/scheduler_config.json": FIRST_DDIM,
        "unet/config.json": unet_json([WITH[0], WITHOUT[0]], [WITHOUT[1], WITH[1]], [32, 64]),
        "vqvae/config.json": autoencoder_json([32, 32, 32, 64], sample_size=256),
        "bert/config.json": bert_json(),
    }
    config = ModelConfig(
        name="text2im",
        image_size=64,
        schedule=ScheduleConfig(beta_schedule="linear", spacing="leading"),
        autoencoder=AutoencoderConfig(channels=(32, 32, 32, 64)),
        unet=UNetConfig(channels=(32, 64), attention=(True, False), heads=(8, 8), context_width=1280),
        text=BertConfig(vocabulary=len(WORDPIECES), layers=2, heads=2, head_size=16, hidden=48),
    )
    return Public(files, config, parts_of(files, seed))


def celebahq(seed: int = 0) -> Public:
    """The latent diffusion paper's faces: no prompt, self-attention alone, a codebook."""
    files = {
        "model_index.json": {
            "_class_name": "LDMPipeline",
            "_diffusers_version": "0.0.4",
            "scheduler": ["diffusers", "DDIMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
            "vqvae": ["diffusers", "VQModel"],
        },
        "scheduler/scheduler_config.json": FIRST_DDIM
        | {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"},
        "unet/config.json": unet_json(
            ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
            ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
            [32, 64, 96],
            _class_name="UNet2DModel",
            attention_head_dim=16,
            in_channels=3,
            out_channels=3,
        ),
        "vqvae/config.json": autoencoder_json(
            [32, 64, 64], _class_name="VQModel", latent_channels=3, num_vq_embeddings=40, sample_size=256
        ),
    }
    config = ModelConfig(
        name="celebahq",
        image_size=32,
        schedule=ScheduleConfig(beta_start=0.0015, beta_end=0.0195, spacing="leading"),
        autoencoder=AutoencoderConfig(channels=(32, 64, 64), latent_channels=3, codebook=40, scale=1.0),
        unet=UNetConfig(
            channels=(32, 64, 96),
            attention=(False, True, True),
            heads=None,
            head_size=16,
            context_width=None,
            latent_channels=3,
        ),
        text=None,
    )
    return Public(files, config, parts_of(files, seed))


def super_resolution(seed: int = 0) -> Public:
    """The latent diffusion paper's super-resolution: a UNet of a latent and a small image, attention at the last level
    alone."""
    files = {
        "model_index.json": {
            "_class_name": "LDMSuperResolutionPipeline",
            "_diffusers_version": "0.8.0.dev0",
            "scheduler": ["diffusers", "DDIMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
            "vqvae": ["diffusers", "VQModel"],
        },
        "scheduler/scheduler_config.json": SUPER_RESOLUTION_DDIM,
        "unet/config.json": unet_json(
            ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
            ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
            [32, 64, 96],
            _class_name="UNet2DModel",
            attention_head_dim=16,
            in_channels=6,
            out_channels=3,
            time_embedding_type="positional",
        ),
        "vqvae/config.json": autoencoder_json(
            [32, 64, 64], _class_name="VQModel", latent_channels=3, num_vq_embeddings=40, sample_size=256
        ),
    }
    config = ModelConfig(
        name="super-resolution",
        image_size=32,
        schedule=ScheduleConfig(beta_start=0.0015, beta_end=0.0155, spacing="leading"),
        autoencoder=AutoencoderConfig(channels=(32, 64, 64), latent_channels=3, codebook=40, scale=1.0),
        unet=UNetConfig(
            channels=(32, 64, 96),
            attention=(False, False, True),
            heads=None,
            head_size=16,
            context_width=None,
            latent_channels=3,
            condition_channels=3,
        ),
        text=None,
    )
    return Public(files, config, parts_of(files, seed))


MAKERS = {
    "sd1": sd1,
    "sd2": sd2,
    "bk-sdm": bk_sdm,
    "text2im": text2im,
    "celebahq": celebahq,
    "super-resolution": super_resolution,
}


@cache
def public(kind: str, seed: int = 0) -> Public:
    return MAKERS[kind](seed)


def parts_of(files: dict[str, dict], seed: int) -> dict[str, nn.Module]:
    return {part: randomise(module, seed + i).eval() for i, (part, module) in enumerate(modules_of(files).items())}


def modules_of(files: dict[str, dict]) -> dict[str, nn.Module]:
    """Made by the libraries from the JSON alone."""
    modules = {"unet": module_of(files["unet/config.json"])}
    for part, folders in {"autoencoder": ("vae", "vqvae"), "text_encoder": ("text_encoder", "bert")}.items():
        for folder in folders:
            if f"{folder}/config.json" in files:
                modules[part] = module_of(files[f"{folder}/config.json"])
    return modules


def module_of(content: dict) -> nn.Module:
    kind = content.get("model_type") or content["_class_name"]
    if kind == "clip_text_model":
        return CLIPTextModel(CLIPTextConfig.from_dict(content))
    if kind == "ldmbert":
        return LDMBertModel(LDMBertConfig.from_dict(content))
    classes = {c.__name__: c for c in (AutoencoderKL, VQModel, UNet2DConditionModel, UNet2DModel)}
    return classes[kind].from_config(content)


def vq_with_attention(seed: int = 0) -> tuple[dict, AutoencoderConfig, VQModel]:
    """VQ-f8, but for its channels: attention at the last level too, and a codebook."""
    content = autoencoder_json(
        [32, 64],
        _class_name="VQModel",
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        num_vq_embeddings=50,
        vq_embed_dim=4,
    )
    config = AutoencoderConfig(channels=(32, 64), codebook=50, scale=1.0, attention=(1,))
    return content, config, randomise(module_of(content), seed).eval()


def clip(seed: int = 0) -> tuple[OurCLIPConfig, CLIPModel]:
    """CLIP with both towers."""
    text = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    vision = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6)
    theirs = CLIPConfig(
        text_config=text | {"vocab_size": len(small_clip()[0]), "bos_token_id": 0, "eos_token_id": 2},
        vision_config=vision | {"image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    ours = OurCLIPConfig(
        text=TextConfig(vocabulary=len(small_clip()[0]), width=32, layers=2, heads=4, hidden=48),
        vision=VisionConfig(image_size=32, patch=8, width=48, layers=2, heads=6, hidden=64),
        embedding=24,
    )
    return ours, randomise(CLIPModel(theirs), seed).eval()
