"""Configurations by name: the included model's and those of public models."""

from dataclasses import replace

from ldm.config import (
    AutoencoderConfig,
    BertConfig,
    ClassConfig,
    CLIPConfig,
    ModelConfig,
    ScheduleConfig,
    TextConfig,
    UNetConfig,
    VisionConfig,
)

# Shared by public models. Sampling ends at alpha_bar_1 if a scheduler file has set_alpha_to_one: false.
SD_SCHEDULE = ScheduleConfig(spacing="leading", offset=1, last=1)
SD2_UNET = UNetConfig(heads=(5, 10, 20, 20), context_width=1024, linear_projection=True)
OPEN_CLIP = TextConfig(width=1024, layers=23, heads=16, hidden=4096, activation="gelu", pad="!")
BK_BASE = UNetConfig(layers=1)
BK_TINY = UNetConfig(channels=(320, 640, 1280), layers=1, attention=(True, True, True), heads=(8, 8, 8), mid=False)
STICKERS_KL = AutoencoderConfig(channels=(16, 48, 96, 128), layers=1, latent_channels=8, groups=8, scale=1.0)
VQ_F4 = AutoencoderConfig(channels=(128, 256, 512), latent_channels=3, codebook=8192, scale=1.0)

PRESETS = {
    "stickers": ModelConfig(
        name="stickers",
        image_size=128,
        # v: on 16x16 latents the prompt matters at noise levels where the loss in eps is a hundredth and teaches little
        schedule=ScheduleConfig(parameterisation="v"),
        autoencoder=STICKERS_KL,
        unet=UNetConfig(
            channels=(64, 128, 192),
            layers=1,
            attention=(True, True, True),
            heads=None,
            head_size=32,
            context_width=160,
            latent_channels=8,
            groups=16,
        ),
        text=TextConfig(vocabulary=723, width=160, layers=3, heads=5, hidden=640, length=32),
    ),
    **{
        name: ModelConfig(name, 512, SD_SCHEDULE, AutoencoderConfig(), unet, TextConfig())
        for name, unet in {
            "sd14": UNetConfig(),
            "sd15": UNetConfig(),
            "bk-sdm-base": BK_BASE,
            "bk-sdm-small": replace(BK_BASE, mid=False),
            "bk-sdm-tiny": BK_TINY,
            "small-sd": BK_BASE,
            "tiny-sd": BK_TINY,
        }.items()
    },
    **{
        name: ModelConfig(name, size, schedule, AutoencoderConfig(), SD2_UNET, OPEN_CLIP)
        for name, size, schedule in (
            ("sd21-base", 512, SD_SCHEDULE),
            ("sd21", 768, replace(SD_SCHEDULE, parameterisation="v")),
            ("sd-turbo", 512, ScheduleConfig()),
        )
    },
    "ldm-text2im": ModelConfig(
        name="ldm-text2im",
        image_size=256,
        # as in its public scheduler file; the model was trained with scaled_linear
        schedule=ScheduleConfig(beta_schedule="linear", spacing="leading"),
        autoencoder=AutoencoderConfig(),
        unet=UNetConfig(context_width=1280),
        text=BertConfig(),
    ),
    "ldm-celebahq": ModelConfig(
        name="ldm-celebahq",
        image_size=256,
        schedule=ScheduleConfig(beta_start=0.0015, beta_end=0.0195, spacing="leading"),
        autoencoder=VQ_F4,
        unet=UNetConfig(
            channels=(224, 448, 672, 896),
            attention=(False, True, True, True),
            heads=None,
            head_size=32,
            context_width=None,
            latent_channels=3,
        ),
        text=None,
    ),
    "cin256": ModelConfig(
        name="cin256",
        image_size=256,
        schedule=replace(SD_SCHEDULE, beta_start=0.0015, beta_end=0.0195),
        autoencoder=VQ_F4,
        unet=UNetConfig(
            channels=(192, 384, 576, 960),
            attention=(False, True, True, True),
            heads=(1, 1, 1, 1),
            context_width=512,
            latent_channels=3,
        ),
        text=ClassConfig(classes=1000, width=512),
    ),
}
# 8 tokens, since the UNet was trained on prompts: more images show their class than with one, by the model's card
PRESETS["stickers-classes"] = replace(
    PRESETS["stickers"], name="stickers-classes", text=ClassConfig(classes=34, width=160, length=8)
)

AUTOENCODERS = {  # first stages on their own
    "stickers-vq": replace(STICKERS_KL, codebook=1024),  # 10 bits at each of 16x16 positions
    "kl-f8": AutoencoderConfig(),
    "vq-f4": VQ_F4,
    "vq-f8": AutoencoderConfig(channels=(128, 256, 256, 512), codebook=16384, scale=1.0, attention=(3,)),
}

CLIP_PRESETS = {
    "stickers-clip": CLIPConfig(
        text=replace(PRESETS["stickers"].text, width=96, layers=2, heads=3, hidden=384),
        vision=VisionConfig(image_size=128, patch=16, width=96, layers=4, heads=3, hidden=384),
        embedding=96,
    ),
    "clip-vit-l": CLIPConfig(text=TextConfig(), vision=VisionConfig(), embedding=768),
}
