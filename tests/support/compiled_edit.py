"""An edit by a UNet that PyTorch has compiled as a whole; tells whether its images are the eager one's, and how many
graphs there are after each of two edits. Without code for the graphs, which takes a minute to generate.

In a process of its own: PyTorch cannot trace the checks of shapes.
"""

import json
from dataclasses import replace
from pathlib import Path

import weights.stickers
from ldm.config import AutoencoderConfig, ModelConfig, ScheduleConfig, UNetConfig
from ldm.presets import PRESETS
from ldm.tokenizer import CLIPTokenizer
from p2p import edit
from tests.support.random_models import random_model

TEXT = replace(PRESETS["stickers"].text, width=16, layers=1, heads=1, hidden=16)
SMALLEST = ModelConfig(
    name="smallest",
    image_size=8,
    schedule=ScheduleConfig(),
    autoencoder=AutoencoderConfig(channels=(8,), layers=1, latent_channels=4, groups=8, scale=0.5),
    unet=UNetConfig(
        channels=(16,),
        layers=1,
        attention=(True,),
        heads=(1,),
        context_width=16,
        latent_channels=4,
        groups=8,
        mid=False,
    ),
    text=TEXT,
)
PAIRS = (("a cat on the grass", "a dog on the grass"), ("a red car at night", "a red bus at night"))


def main() -> None:
    tokenizer = CLIPTokenizer.from_file(Path(weights.stickers.__file__).parent / "tokenizer.json", TEXT)
    eager, compiled = (random_model(SMALLEST, tokenizer) for _ in range(2))
    graphs, found = [], []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled.unet.compile(backend=backend, fullgraph=True, dynamic=False)
    for seed, (pair, tau) in enumerate(zip(PAIRS, (0.5, 0.4))):
        how = {"seed": seed, "steps": 5, "tau": tau, "self_until": 0.7}
        of = [edit(*pair, **how, model=model).images for model in (eager, compiled)]
        found.append({"equal": bool((of[0] == of[1]).all()), "graphs": len(graphs)})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
