"""Pictures as bytes, (b, H, W, 3), and as the networks have them, (b, 3, H, W) in [-1, 1]."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_tensor(pictures: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b 3 H W"]:
    """Bytes to [-1, 1], in float32."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(x: Float[Tensor, "b 3 H W"]) -> UInt8[np.ndarray, "b H W 3"]:
    """[-1, 1] to bytes; what lies outside is clipped."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
