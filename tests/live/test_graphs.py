"""The graphs that the page loads, in onnxruntime, against the model and the method in torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ldm.attention import Site, attend
from p2p.edits import Matrices
from p2p.inject import Injection, Layers, explicit
from p2p.live.world import FOLDER
from p2p.maps import WordMaps
from weights.load import load

pytestmark = pytest.mark.live

# float32 sums of a few hundred terms in another order, through forty layers: measured 4e-6, of numbers of size 0.5
ROUNDING = {"rtol": 0, "atol": 3e-5}


@pytest.fixture(scope="module")
def model():
    return load("stickers", device="cpu")


@pytest.fixture(scope="module")
def sessions():
    """The built graphs, unpacked."""
    import onnxruntime

    from p2p.live.graphs import unpack

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    names = ("text", "unet", "decoder")
    return {
        name: onnxruntime.InferenceSession(unpack((FOLDER / f"{name}.bin").read_bytes()), options) for name in names
    }


@pytest.mark.parametrize("rows", [2, 4, 6])
def test_a_step_is_the_edit_inside_the_unet(model, sessions, rows):
    """The method's own engine on the last two rows, plain attention on the rows before."""
    generator = torch.Generator().manual_seed(rows)
    m = model.config.text.length
    z, t = torch.randn(rows, *model.latent_shape, generator=generator), 321
    context = model.encode_prompts(["", "a photo of a cat", "a photo of a dog on the grass"] * 2)[:rows]
    P, Q = torch.rand(m, m, generator=generator).softmax(dim=1), torch.rand(m, generator=generator)
    share = 0.3
    maps = WordMaps(16)
    injection = Injection([Matrices(P.double(), Q.double())], Layers(), [share], Layers(side=16))
    edited = explicit(injection, maps)

    def attn_fn(site: Site, Q, K, V):
        before = slice(None, rows - 2)
        plain = attend(Q[before], K[before], V[before])
        return torch.cat([plain, edited(site, Q[rows - 2 :], K[rows - 2 :], V[rows - 2 :])])

    with torch.no_grad():
        v = model.unet(z, torch.tensor([t - 1]), context, attn_fn)
    given = {"z": z, "context": context, "P": P, "Q": Q, "self_share": torch.tensor([share])}
    feeds = {name: tensor.numpy() for name, tensor in given.items()} | {"t": np.array([t])}
    own, own_maps = map(torch.from_numpy, sessions["unet"].run(["v", "maps"], feeds))
    torch.testing.assert_close(own, v, **ROUNDING)
    torch.testing.assert_close(own_maps, maps.mean(), **ROUNDING)


def test_contexts_and_images_are_the_models(model, sessions):
    ids = model.tokenizer.batch(["", "a painting of a big red apple next to a cat on the beach in fog", "x y z"])
    (context,) = sessions["text"].run(None, {"ids": ids.numpy()})
    torch.testing.assert_close(torch.from_numpy(context), model.text_encoder(ids), **ROUNDING)
    for rows in (1, 3):
        z_0 = torch.randn(rows, *model.latent_shape, generator=torch.Generator().manual_seed(rows))
        (x,) = sessions["decoder"].run(None, {"z_0": z_0.numpy()})
        torch.testing.assert_close(torch.from_numpy(x), model.autoencoder.decode(z_0), **ROUNDING)


def test_the_graphs_are_small_and_hold_the_models_weights_exactly(model):
    import onnx

    from p2p.live.build import LARGEST
    from p2p.live.graphs import unpack

    packed = {name: (FOLDER / f"{name}.bin").read_bytes() for name in ("text", "unet", "decoder")}
    assert sum(map(len, packed.values())) <= LARGEST
    shipped = {value.half().numpy().tobytes() for value in model.unet.state_dict().values() if value.ndim == 4}
    stored = set()
    for name, graph in packed.items():
        wide = 0
        for tensor in onnx.load_from_string(unpack(graph)).graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                wide += np.prod(tensor.dims)
            stored.add(tensor.raw_data)
        assert wide < 10_000, f"{name} stores {wide} numbers in float32"
    assert shipped <= stored  # kernels of convolutions, as they are


def test_graphs_have_no_traces_of_the_machine_they_were_made_on():
    from p2p.live.graphs import unpack

    for name in ("text", "unet", "decoder"):
        graph = unpack((FOLDER / f"{name}.bin").read_bytes())
        assert str(Path.home()).encode() not in graph and b".py" not in graph


def test_packing_is_undone():
    from p2p.live.graphs import pack, unpack

    for length in (0, 1, 2, 7, 1000):
        graph = bytes(i * i % 256 for i in range(length))
        assert unpack(pack(graph)) == graph
