"""The slips of the slides of Prompt-to-Prompt, as `ldm.equations.slips` has those of the model."""

from jaxtyping import Float
from torch import Tensor

from ldm.equations import slips
from ldm.equations.slips import Slip
from p2p.alpha import Step, switch_time


def averaged(orange: Float[Tensor, " n"], big: Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
    """Columns of "big" and "tabby", each the average over "big" and "orange"."""
    return ((orange + big) / 2)[:, None].expand(-1, 2)


def split(orange: Float[Tensor, " n"], big: Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
    """Columns of "big" and "tabby", each half of the column of "orange"."""
    return (orange / 2)[:, None].expand(-1, 2)


SLIPS = slips.SLIPS | {
    # the steps whose maps are kept, and the steps in which A is used
    "steps": Slip(lambda T: list(range(T - 1, 0, -1)), lambda T: list(range(T, 0, -1))),
    "until tau": Slip(
        lambda T, tau: list(range(T - 1, tau - 1, -1)),
        lambda T, tau: list(range(T, switch_time(Step(tau), T) - 1, -1)),
    ),
    "average": Slip(averaged, split),
}
