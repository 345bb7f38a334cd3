"""Types that the whole package shares."""

from jaxtyping import Float, Int
from torch import Tensor

Latent = Float[Tensor, "b c h w"]  # z: c channels at h x w positions, for each image of the batch
Times = int | Int[Tensor, " b"]  # t: one timestep for the whole batch, or one per latent
