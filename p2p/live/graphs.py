"""The networks of the included model as ONNX graphs, for the page that edits in the browser.

Three graphs: the text encoder, one call of the UNet, the decoder. An edit is two small matrices [P10], so the UNet's
graph takes them as inputs, and one graph serves every edit:

    z (b, 8, 16, 16), t (1), context (b, 32, 160), P (32, 32), Q (32), self_share (1)  ->  v, maps (2, 32, 16, 16)

The last row of the batch is edited, and the row before it is its source; all other rows are computed plainly. `maps` is
the cross-attention that these two rows used, averaged over the heads and the layers of 16 positions a side.

A graph stores its weights in half precision, as the model's file does, and computes in float32. It is written packed:
its bytes at even places, then those at odd places, compressed by gzip, since the first and the second bytes of half
precision numbers compress better apart.
"""

import gzip
import io
import logging
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import torch
from jaxtyping import Float, Int
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ldm.attention import AttentionFn, Site, attention_map
from ldm.pipeline import LatentDiffusion
from ldm.shapes import Latent
from p2p.edits import used
from p2p.inject import layout_side

OPSET = 20  # the first with Gelu
LEAST = 16  # smaller tensors stay in float32


class Step(nn.Module):
    """One call of the UNet, with the edit of its last row as tensors."""

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.unet, self.side = model.unet, layout_side(model)

    def forward(
        self,
        z: Latent,
        t: Int[Tensor, "1"],
        context: Float[Tensor, "b m e"],
        P: Float[Tensor, "m m"],
        Q: Float[Tensor, " m"],
        self_share: Float[Tensor, "1"],
    ) -> tuple[Latent, Float[Tensor, "2 m h w"]]:
        """The UNet's output, and the maps of the last two rows; t is the lecture's, counted from 1."""
        maps: list[Tensor] = []
        v = self.unet(z, t - 1, context, self._edited(P, Q, self_share, maps))
        return v, torch.stack(maps).mean(dim=0)

    def _edited(self, P: Tensor, Q_t: Tensor, self_share: Tensor, maps: list[Tensor]) -> AttentionFn:
        """[P5] The edit of the last row by the row before it, which appends the maps to show."""

        def attn_fn(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
            A = attention_map(Q, K)  # (b, h, n, m)
            source, own = A[-2:-1], A[-1:]
            if site.kind == "self":
                return torch.cat([A[:-1], self_share * source + (1 - self_share) * own]) @ V
            A = torch.cat([A[:-1], used(source, own, P, Q_t)])
            if site.height == self.side:
                maps.append(A[-2:].mean(dim=1).mT.unflatten(-1, (site.height, site.width)))
            return A @ V

        return attn_fn


class Decode(nn.Module):
    """The decoder of the first stage [B1]."""

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.autoencoder = model.autoencoder

    def forward(self, z_0: Latent) -> Float[Tensor, "b 3 H W"]:
        return self.autoencoder.decode(z_0)


def graphs(model: LatentDiffusion) -> dict[str, Callable[[], onnx.ModelProto]]:
    """A function that exports each graph, by its name."""
    b, m, e = 4, model.config.text.length, model.config.text.width
    latents, matrix = torch.zeros(b, *model.latent_shape), torch.eye(m)
    step = (latents, torch.tensor([500]), torch.zeros(b, m, e), matrix, torch.ones(m), torch.ones(1))
    return {
        "text": lambda: export(model.text_encoder, (torch.zeros(b, m, dtype=torch.long),), ["ids"], ["context"]),
        "unet": lambda: export(Step(model), step, ["z", "t", "context", "P", "Q", "self_share"], ["v", "maps"]),
        "decoder": lambda: export(Decode(model), (latents,), ["z_0"], ["x"]),
    }


def export(module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """Export a module to ONNX, its weights in half precision where that is exact.

    Args:
        module: in float32.
        example: its arguments; those of several rows may have any number of rows.
        inputs, outputs: names.
    """
    rows = torch.export.Dim("b", min=2, max=64)
    shapes = tuple({0: rows} if len(x) == len(example[0]) > 1 else None for x in example)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own dependencies
        for name in ("onnxscript", "torch.onnx"):  # they tell of constants not folded, and of packages not needed
            logging.getLogger(name).setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    model = program.model_proto
    in_half_precision(model)
    for node in model.graph.node:  # the exporter's notes on the sources, with paths of this machine
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for info in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        info.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    onnx.checker.check_model(model)
    return model


def in_half_precision(model: onnx.ModelProto) -> None:
    """Store the float32 tensors that half precision holds exactly as float16, each followed by a cast to float32, which
    a runtime computes once, when it loads the graph."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < LEAST or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)


def pack(graph: bytes) -> bytes:
    """The bytes at even places, then those at odd places, compressed."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(graph[0::2] + graph[1::2])
    return packed.getvalue()


def unpack(packed: bytes) -> bytes:
    """The inverse of `pack`."""
    apart = gzip.decompress(packed)
    graph, half = bytearray(len(apart)), -(-len(apart) // 2)
    graph[0::2], graph[1::2] = apart[:half], apart[half:]
    return bytes(graph)
