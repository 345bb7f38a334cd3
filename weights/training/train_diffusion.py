"""Algorithm 1 [D15] on the stickers' latents: the text encoder and the UNet, trained together."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from ldm.attention import Site, attention_map
from ldm.autoencoder import Autoencoder
from ldm.class_embedder import ClassTokenizer
from ldm.config import ModelConfig
from ldm.helpers.files import save_atomically
from ldm.helpers.images import to_tensor
from ldm.schedule import Schedule
from ldm.text_encoder import TextEncoder
from ldm.tokenizer import CLIPTokenizer
from ldm.train import ldm_loss
from ldm.unet import UNet
from weights.training.art import cache_dir

DROPOUT = 0.1  # of captions, so that the empty prompt is trained and guidance [D18] works

# Words kept in several tokens, so that there are swaps between different numbers of tokens.
IN_PIECES = {"butterfly": 2, "bicycle": 2, "strawberry": 2, "octopus": 2, "elephant": 3, "umbrella": 3}


@torch.no_grad()
def encode_all(autoencoder: Autoencoder, pictures: np.ndarray) -> Float[Tensor, "n c h w"]:
    """Encode all images, or take their latents from the cache: a sample of each Gaussian, in float16."""
    digest = hashlib.sha256(f"{pictures.shape} {autoencoder.config}".encode())
    digest.update(pictures[:: max(1, len(pictures) // 200)].tobytes())  # enough to contain every style and place
    for part in (autoencoder.encoder, autoencoder.quant_conv):
        for tensor in part.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    path = cache_dir() / f"latents-{digest.hexdigest()[:12]}.npy"
    if not path.exists():
        generator = torch.Generator().manual_seed(0)
        parts = []
        for i in tqdm(range(0, len(pictures), 32), unit="batch", desc="encoding"):
            x = to_tensor(pictures[i : i + 32]).contiguous(memory_format=torch.channels_last)
            side = x.shape[-1] // autoencoder.config.factor
            shape = (len(x), autoencoder.config.latent_channels, side, side)
            with torch.autocast("cpu", torch.bfloat16):  # half the time; 0.6% of error, under a sample's noise
                z = autoencoder.encode(x, torch.randn(shape, generator=generator))
            parts.append(z.half().numpy())
        save_atomically(lambda part: _save(part, np.concatenate(parts)), path)
    return torch.from_numpy(np.load(path))


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # given a path, numpy would add an extension
        np.save(file, array)


def new_model(config: ModelConfig) -> nn.ModuleDict:
    """Create the two networks that Algorithm 1 trains, with random parameters."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"text_encoder": TextEncoder(config.text), "unet": UNet(config.unet)})
    embeddings = model.text_encoder.embeddings  # CLIP's scale; torch's default of 1 swamps the positions' gradient
    nn.init.normal_(embeddings.token_embedding.weight, std=0.02)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.01)
    nn.init.zeros_(model.unet.conv_out.weight)  # the initial output is zero
    return model.to(memory_format=torch.channels_last)


class DiffusionLoss:
    """One sample of Algorithm 1's lines 2-7, for the trainer."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: CLIPTokenizer | ClassTokenizer,
        latents: Float[Tensor, "n c h w"],
        captions: list[str],
        batch: int,
    ):
        self.schedule, self.latents, self.batch = Schedule(config.schedule), latents, batch
        self.ids: Int[Tensor, "n m"] = tokenizer.batch(captions)
        self.empty: Int[Tensor, "1 m"] = tokenizer.batch([""])

    def __call__(self, model: nn.ModuleDict, generator: torch.Generator) -> Float[Tensor, ""]:
        pick = torch.randint(len(self.latents), (self.batch,), generator=generator)
        z_0 = self.latents[pick].float().contiguous(memory_format=torch.channels_last)
        t = torch.randint(1, self.schedule.T + 1, (self.batch,), generator=generator)
        eps = torch.randn(z_0.shape, generator=generator)
        dropped = torch.rand((self.batch, 1), generator=generator) < DROPOUT
        context = model["text_encoder"](torch.where(dropped, self.empty, self.ids[pick]))
        unet = partial(model["unet"], attn_fn=whole_map)
        return ldm_loss(unet, self.schedule, z_0, context, t, eps)


def whole_map(
    site: Site, Q: Float[Tensor, "b h n d"], K: Float[Tensor, "b h m d"], V: Float[Tensor, "b h m e"]
) -> Float[Tensor, "b h n e"]:
    """Attention by its whole map: at 256 positions and fewer, the fused form's gradient takes longer."""
    return attention_map(Q, K) @ V
