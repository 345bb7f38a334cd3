"""The whole CLIP model: an image tower beside the text encoder [C9], and the score that rates images.

After Radford et al. 2021 (arXiv 2103.00020); the image tower is the vision transformer of Dosovitskiy et al. 2020
(arXiv 2010.11929). Parameter names are those of the public files.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from ldm.config import CLIPConfig, VisionConfig
from ldm.contrastive import similarity
from ldm.helpers.images import check_images
from ldm.text_encoder import Encoder, TextEncoder, table

# of red, green and blue, in [0, 1], over CLIP's training images
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def prepare(images: UInt8[np.ndarray, "b H W 3"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Preprocess images of any size as in CLIP's training, on the CPU.

    Resizes the shorter side to `side`, crops the central square, and normalises each colour channel. The filter is
    Pillow's bicubic, which averages when it shrinks; other filters give other scores.

    Raises:
        ValueError: no images, or not as bytes.
    """
    check_images("images", images)
    if not images.size:
        raise ValueError("give at least one image")
    height, width = (side * length // min(images.shape[1:3]) for length in images.shape[1:3])
    top, left = (height - side) // 2, (width - side) // 2
    resized = [Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC) for image in images]
    square = np.stack(resized)[:, top : top + side, left : left + side]
    x = (torch.from_numpy(square) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return rearrange(x, "b h w c -> b c h w")


class PatchEmbeddings(nn.Module):
    """The class token, then the patches row by row; plus the position embedding."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(config.width))  # uninitialised, as in `table`
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        self.position_embedding = table(config.positions, config.width)

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n e"]:
        patches = rearrange(self.patch_embedding(x), "b e h w -> b (h w) e")
        first = self.class_embedding.expand(len(x), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class ImageEncoder(nn.Module):
    """Maps each prepared image to a vector: the class token after the last layer, which attends to all patches."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.embeddings = PatchEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width)  # spelled like this in the public files
        self.encoder = Encoder(config, causal=False)
        self.post_layernorm = nn.LayerNorm(config.width)

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b e"]:
        x = self.encoder(self.pre_layrnorm(self.embeddings(x)))
        return self.post_layernorm(x[:, 0])


class CLIP(nn.Module):
    """Embeds images and texts as unit vectors in one space, where matching ones point in similar directions.

    `logit_scale` is the logarithm of the scale that `similarity` and `zero_shot` take.
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.text_model = TextEncoder(config.text)
        self.vision_model = ImageEncoder(config.vision)
        self.text_projection = nn.Linear(config.text.width, config.embedding, bias=False)
        self.visual_projection = nn.Linear(config.vision.width, config.embedding, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_text(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b e"]:
        """Embed texts as unit vectors, from the first EOS: there it has seen every word and no padding."""
        ids = ids.to(self.logit_scale.device)
        tokens = self.text_model(ids)
        eos = ids.argmax(dim=-1)  # EOS has the largest id of CLIP's vocabulary, and argmax returns the first of equals
        pooled = tokens[torch.arange(len(ids), device=ids.device), eos]
        return F.normalize(self.text_projection(pooled), dim=-1)

    def embed_images(self, images: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b e"]:
        """Embed images as unit vectors.

        Raises:
            ValueError: no images.
        """
        x = prepare(images, self.config.vision.image_size).to(self.logit_scale)  # its device and dtype
        return F.normalize(self.visual_projection(self.vision_model(x)), dim=-1)

    @torch.no_grad()
    def score(self, images: UInt8[np.ndarray, "n H W 3"], ids: Int[Tensor, "m k"]) -> Float[Tensor, "n m"]:
        """The CLIP score of each image with each text: their cosine, from -1 to 1.

        CLIPScore (Hessel et al. 2021, arXiv 2104.08718) is 2.5 times this if positive, else 0.

        Raises:
            ValueError: no images.
        """
        return similarity(self.embed_images(images), self.embed_text(ids), 1.0)


def new_clip(config: CLIPConfig) -> CLIP:
    """Create a CLIP with random parameters, to train. Embeddings have the scales of Radford et al."""
    model = CLIP(config)
    text, vision = model.text_model.embeddings, model.vision_model.embeddings
    nn.init.normal_(text.token_embedding.weight, std=0.02)
    nn.init.normal_(text.position_embedding.weight, std=0.01)
    for parameter in (vision.class_embedding, vision.position_embedding.weight):
        nn.init.normal_(parameter, std=config.vision.width**-0.5)
    return model
