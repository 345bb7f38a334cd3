"""The layout of google/prompt-to-prompt in diffusers: every attention map is built, and the small ones are stored.

Reimplemented from its documented behaviour, as an attention processor: scores and their softmax as tensors, for all
rows; the conditional half is edited in place; maps of at most 32x32 positions are stored, and summed over the steps.
Only the layout is the reference's: P_t and Q_t are ours, so that results can be compared.
"""

from jaxtyping import Float
from torch import Tensor

from p2p.edits import used
from p2p.inject import Injection

STORED = 32**2  # positions of the largest maps that are stored


class StoredMaps:
    """An attention processor for a batch of empty, empty, source and target."""

    def __init__(self, injection: Injection):
        (matrices,), (self.self_share,) = injection.matrices, injection.self_shares
        self.P, self.Q, self.largest = matrices.P, matrices.Q, injection.self_layers.side**2
        self.step: list[Tensor] = []
        self.sums: list[Tensor] = []

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None) -> Tensor:
        cross = encoder_hidden_states is not None
        context = encoder_hidden_states if cross else hidden_states
        pairs = (attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context)
        query, key, value = (attn.head_to_batch_dim(layer(x)) for layer, x in pairs)
        probs = attn.get_attention_scores(query, key)  # (4 h, n, m)
        conditional = probs.unflatten(0, (4, attn.heads))[2:]
        if probs.shape[1] <= STORED:
            self.step.append(conditional)
        self.edit(conditional, cross)
        return attn.to_out[0](attn.batch_to_head_dim(probs @ value))

    def edit(self, A: Float[Tensor, "2 h n m"], cross: bool) -> None:
        """Edit the target's maps in place; the first row are the source's."""
        if cross:
            A[1] = used(A[0], A[1], self.P.to(A), self.Q.to(A))
        elif self.self_share and A.shape[2] <= self.largest:
            A[1] = self.self_share * A[0] + (1 - self.self_share) * A[1]

    def between_steps(self) -> None:
        """Add the maps of this step to those of the steps before."""
        self.sums = [a.add_(b) for a, b in zip(self.sums, self.step)] if self.sums else self.step
        self.step = []
