"""The text encoder's contrastive pre-training [C9]: matching images and texts get similar features, others do not.

After CLIP (Radford et al. 2021). Stable Diffusion's text encoder was trained with this loss; it also gives a zero-shot
classifier. Features are the two encoders' outputs after projection to a common width e; their norms do not matter.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def similarity(
    images: Float[Tensor, "n e"], texts: Float[Tensor, "m e"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, "n m"]:
    """[C9] S_ij = scale * cosine of the angle between image i and text j.

    The scale is an inverse temperature; CLIP learns its logarithm, from log(1 / 0.07) up to log(100).
    """
    return scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).mT


def contrastive_loss(
    images: Float[Tensor, "n e"], texts: Float[Tensor, "m e"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """[C9] Symmetric cross-entropy over S: each image is classified among the texts, each text among the images.

        L = -1/2n sum_i (log softmax(S_i.)_i + log softmax(S_.i)_i),    pair i being image i and text i

    Raises:
        ValueError: the numbers of texts and images differ.
    """
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images and {len(texts)} texts are not pairs: give one text for each image")
    S = similarity(images, texts, scale)
    right_text, right_image = S.log_softmax(dim=1).diagonal(), S.log_softmax(dim=0).diagonal()
    return -(right_text + right_image).mean() / 2


def zero_shot(
    images: Float[Tensor, "n e"], labels: Float[Tensor, "m e"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, "n m"]:
    """[C9] Probability of each label given each image, from the features of a text per label: softmax over S's rows."""
    return similarity(images, labels, scale).softmax(dim=-1)
