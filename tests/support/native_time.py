"""How long twenty steps of an edit take natively, to print beside the browser's time.

Four rows, the source and the target with and without their prompts, as the page computes them. All steps take the same
time, so that of the fastest of a few is multiplied: another program slows most of them.
"""

import json
import timeit

import numpy as np
import onnxruntime
import torch

from ldm.helpers.machine import processor
from p2p.live.graphs import Step, unpack
from p2p.live.world import FOLDER
from weights.load import load

STEPS, TIMED, ROWS = 20, 5, 4


def main() -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(unpack((FOLDER / "unet.bin").read_bytes()), options)
    model = load("stickers", device="cpu")
    m, e = model.config.text.length, model.config.text.width
    shapes = {"z": (ROWS, *model.latent_shape), "context": (ROWS, m, e), "P": (m, m), "Q": (m,), "self_share": (1,)}
    draw = np.random.default_rng(0).standard_normal
    given = {name: draw(shape).astype(np.float32) for name, shape in shapes.items()} | {"t": np.array([500])}
    step = Step(model)
    tensors = {name: torch.from_numpy(x) for name, x in given.items()}
    seconds = {}
    for name, call in {"onnxruntime": lambda: session.run(None, given), "torch": lambda: step(**tensors)}.items():
        with torch.no_grad():
            seconds[name] = STEPS * min(timeit.repeat(call, number=1, repeat=TIMED))
    print(json.dumps(seconds | {"threads": torch.get_num_threads(), "processor": processor()}))


if __name__ == "__main__":
    main()
