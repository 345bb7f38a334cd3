"""What a run keeps in memory: no tensor of the decoder outlives its use."""

import weakref

import torch
from torch import nn


def alive_during(layer: nn.Module, of: list[nn.Module], run) -> list[bool]:
    """Whether the input of each layer in `of` still is in memory when `layer` is called."""
    inputs, alive = [], []
    hooks = [each.register_forward_pre_hook(lambda _, args: inputs.append(weakref.ref(args[0]))) for each in of]
    hooks.append(layer.register_forward_pre_hook(lambda _, args: alive.extend(x() is not None for x in inputs)))
    run()
    for hook in hooks:
        hook.remove()
    return alive


def test_the_decoder_lets_go_of_what_it_no_longer_needs(tiny):
    """At the last level's last block neither that level's input is kept, nor an earlier one's, nor what its norms made.
    At Stable Diffusion's size these are the largest tensors of the whole model."""
    levels, z = tiny.autoencoder.decoder.up_blocks, torch.randn(1, *tiny.latent_shape)
    first, last = levels[-1].resnets[0], levels[-1].resnets[-1]
    before = [levels[0].resnets[0].norm1, first.norm1, first.conv1, first.norm2, first.conv2, last.conv1]
    with torch.no_grad():
        alive = alive_during(last.norm2, before, lambda: tiny.autoencoder.decode(z))
    assert alive == [False] * len(before)
