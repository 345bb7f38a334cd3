"""A real image as a run of the sampler: what each method of inversion returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.samplers import DDIM, Past, Sampler, ddpm_step
from ldm.schedule import Prediction, Schedule
from ldm.shapes import Latent
from ldm.states import State

Method = Literal["direct", "ddim", "fixed-point", "null-text", "negative-prompt", "edit-friendly"]


@dataclass(frozen=True, eq=False)
class Inverted:
    """An image's latents at every timestep of a run, and what a run needs to return to the image.

    Args:
        states: of one row, from the noisiest on; the last is the image's z_0.
        noises: t -> of the step of DDPM from t, with which the run returns; None is DDIM, which adds none.
        empty: t -> what guidance leads away from [D18]; None is the empty prompt.
        pinned: whether the source's latents are replaced by `states` after every step.
    """

    states: tuple[State, ...]
    noises: Mapping[int, Float[Tensor, "1 c h w"]] | None = None
    empty: Callable[[int], Float[Tensor, "1 m e"]] | None = None
    pinned: bool = False

    @property
    def sampler(self) -> Sampler:
        """The steps that return to the image, at the timesteps of `states`: with leading spacing these are not the
        evenly spaced ones of a run that starts below T."""

        def step(
            schedule: Schedule, z_t: Tensor, prediction: Prediction, t: int, t_prev: int, noise: Tensor, past: Past = ()
        ) -> Tensor:
            return ddpm_step(schedule, z_t, prediction, t, t_prev, self.noises[t].expand_as(z_t))

        visited = [state.t for state in self.states]
        return Sampler(DDIM.step if self.noises is None else step, lambda schedule, steps, start: visited)

    def options(self, rows: int, blend: Callable[[State], Latent] | None = None) -> dict[str, Any]:
        """The keyword arguments of `denoise` for a source and its targets.

        Args:
            rows: their number.
            blend: as for `denoise`; it sees the source as it is pinned.
        """
        blend = blend or (lambda state: state.z_t)
        at = {state.t: state.z_t for state in self.states}

        def pinning(state: State) -> Latent:
            return blend(state._replace(z_t=torch.cat([at[state.t], state.z_t[1:]])))

        start = self.states[0]
        return {
            "start": State(start.t, start.z_t.expand(rows, -1, -1, -1)),
            "sampler": self.sampler,
            "empty": self.empty,
            "blend": pinning if self.pinned else blend,
            "known": self.states[-1].z_t if self.pinned else None,
        }
