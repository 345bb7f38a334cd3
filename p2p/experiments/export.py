"""Export for other programs: word maps and latents as `.npz`, the measurements of sweeps as CSV or JSON."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ldm.helpers.likeness import psnr, structure
from ldm.states import State
from p2p.alpha import Step, Window
from p2p.experiments.sweeps import Sweep
from p2p.figures.sweep_plots import name
from p2p.maps import MapHistory
from p2p.result import maps_of


def save_maps(path: Path, histories: Sequence[MapHistory], states: Sequence[State], side: int) -> None:
    """Write word maps and latents for `numpy.load(path)`, which needs no pickle for them.

    - prompts (b,): the source, then its targets.
    - latents (s, b, c, h, w): z_t after each step; the image was decoded from the last.
    - latent_times (s,): their t.
    - map_times (k,): t of the network calls.
    - words_0, words_1, ... (n,): the words of each prompt, named as by `p2p.words.names`, then "other tokens", such as
      punctuation, if any, then "BOS EOS PAD".
    - maps_0, maps_1, ... (k, n, h, w): the attention to each of them, averaged over heads and layers; sums to 1 over n,
      unless an edit re-weights or drops some.

    Args:
        path: of the file, used as it is.
        histories: one per row of the batch.
        states: of the run.
        side: positions on the shorter side of the averaged layers.

    Raises:
        ValueError: no layer has this resolution.
    """
    arrays = {
        "prompts": np.array([history.tokens.prompt for history in histories]),
        "latents": np.stack([state.z_t.float().cpu().numpy() for state in states]),
        "latent_times": np.array([state.t for state in states]),
        "map_times": np.array(histories[0].times),
    }
    for i, history in enumerate(histories):
        maps = maps_of(history, side)
        arrays[f"words_{i}"], arrays[f"maps_{i}"] = np.array(maps.words), maps.A
    with path.open("wb") as file:  # given a path, numpy would add an extension
        np.savez_compressed(file, **arrays)


def measurements(sweeps: Sequence[Sweep]) -> list[dict[str, str | int | float]]:
    """The measurements of sweeps: a row per target, seed and setting, preceded by the fidelity of the source's image;
    of a real image also by how near the source comes to it.

    The source's attention was used while start >= t >= end; `start` and `end` have the form of `--alpha`.
    """
    rows = []
    for sweep in sweeps:
        for i, seed in enumerate(sweep.seeds):
            common = {"source": sweep.source, "target": sweep.target, "seed": seed}
            of_source = dict.fromkeys(("start", "end", "preservation_db", "structure"), "")
            if sweep.given is not None:
                returned = (sweep.originals[i], sweep.given)
                of_source |= {"preservation_db": psnr(*returned), "structure": structure(*returned)}
            fit = {"fidelity": sweep.fidelity_of_originals[i].item()}
            rows.append(common | {"setting": "source"} | of_source | fit)
            for j, tau in enumerate(sweep.settings):
                start, end = (tau.start, tau.end) if isinstance(tau, Window) else (1.0, tau)
                start, end = (f"t={time.t}" if isinstance(time, Step) else time for time in (start, end))
                measured = {
                    "preservation_db": sweep.preservation[i, j].item(),
                    "structure": sweep.structure[i, j].item(),
                    "fidelity": sweep.fidelity[i, j].item(),
                }
                rows.append(common | {"setting": name(tau), "start": start, "end": end} | measured)
    return rows


def save_numbers(path: Path, rows: Sequence[dict[str, str | int | float]], ending: str) -> None:
    """Write rows as `.csv` or `.json`. The infinite PSNR of equal images is `inf` in CSV, but null in JSON, which has
    no infinity."""
    if ending == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return
    finite = [{key: None if value in (math.inf, "") else value for key, value in row.items()} for row in rows]
    path.write_text(json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
