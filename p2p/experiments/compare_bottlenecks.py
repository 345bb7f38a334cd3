"""A Gaussian [B2] or a codebook [B3] between encoder and decoder: `python -m p2p.experiments.compare_bottlenecks`.

Measures both included autoencoders on held-out scenes [B1], prints a table, and writes out/bottlenecks.png: scenes and
their reconstructions. (The scenes are rendered from art that npm downloads once.)
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.experiments.compare_bottlenecks"))

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from ldm.autoencoder import Autoencoder
from ldm.helpers.files import check_writable, save_atomically
from ldm.helpers.images import to_tensor
from ldm.quantize import perplexity, usage
from p2p.figures import sheets
from weights.load import load, load_autoencoder
from weights.training.data import held_out_scenes, render_all
from weights.training.train_autoencoder import mean_psnr, reconstructions

SHOWN = 6  # scenes in the figure
OUTPUT = Path("out/bottlenecks.png")


@torch.no_grad()
def figures(model: Autoencoder, images: UInt8[np.ndarray, "n H W 3"]) -> dict[str, str]:
    """An autoencoder's column of the table."""
    config, size = model.config, images[0].size  # values, one byte each
    positions = size / 3 / config.factor**2
    batches = [to_tensor(images[i : i + 20]) for i in range(0, len(images), 20)]
    if config.codebook:
        index = torch.cat([model.quantize.indices(model.latent(x)) for x in batches])
        information = positions * math.log2(perplexity(index))
    else:
        information = sum(model.posterior(x).kl().sum().item() for x in batches) / len(images) / math.log(2)
    rows = {
        "PSNR": f"{mean_psnr(model, images):.2f} dB",
        "values in an image per value in its latent": f"{config.compression:.0f}",
        "bits to store a latent in": f"{positions * config.bits:.0f}",
        "bits in an image per bit in its latent": f"{8 * size / (positions * config.bits):.0f}",
        "bits of information in a latent (KL; entropy)": f"{information:.0f}",
    }
    if config.codebook:
        rows["share of the codebook's entries in use"] = f"{usage(index, config.codebook):.1%}"
        rows["perplexity of the codebook"] = f"{perplexity(index):.0f} of {config.codebook}"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    OUTPUT.parent.mkdir(exist_ok=True)
    check_writable(OUTPUT)
    models = {"KL": load(device="cpu").autoencoder, "codebook": load_autoencoder("stickers-vq", "cpu")}
    images = render_all(held_out_scenes(500), "held-out")
    columns = {name: figures(model, images) for name, model in models.items()}
    print(f"{f'on {len(images)} held-out scenes':48}" + "".join(f"{name:>14}" for name in columns))
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        print(f"{row:48}" + "".join(f"{column.get(row, ''):>14}" for column in columns.values()))

    shown = images[:SHOWN]
    panels = {"original": shown} | {name: reconstructions(model, shown) for name, model in models.items()}
    figure = sheets.grid([[(name, image) for image in row] for name, row in panels.items()])
    save_atomically(lambda part: sheets.as_image(figure).save(part, format="PNG"), OUTPUT)
    print(OUTPUT)
