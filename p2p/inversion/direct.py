"""Direct inversion (Ju et al. 2023, arXiv 2310.01506): the source follows its inverted latents, whatever guidance does.

DDIM inversion gives z_T, ..., z_0. A guided run from z_T leaves them; after every step what it lost, z_t - z_t^source,
is added to the source again, so that the source is the image to the bit and its attention is that of the image. The
targets are not corrected: they are free to differ.
"""

from dataclasses import replace

from p2p.inversion.inverted import Inverted


def direct(inverted: Inverted) -> Inverted:
    """Let the source follow the states of an inversion."""
    return replace(inverted, pinned=True)
