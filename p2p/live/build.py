"""Build what the page edits with, from the included weights: `make site` runs this, then bundles the page.

Written to site/model/: the three graphs, the tokenizer, what the page knows of the world, the images of the first
preset, and the cases that the page's JavaScript is tested on.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.live.build"))

import base64
import io
import json
import sys

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ldm.helpers.files import check_writable, save_atomically
from ldm.pipeline import LatentDiffusion
from ldm.states import Noise
from ldm.tokenizer import PromptTokenizer
from p2p.algorithm import SelfInjection
from p2p.alpha import Alpha
from p2p.call import Call, Sampling, Target
from p2p.edits import Edit, Reweight
from p2p.experiments.baselines import fixed_seed
from p2p.live.cases import cases
from p2p.live.graphs import graphs, pack
from p2p.live.world import FOLDER, PRESETS, STEPS, Preset, world
from p2p.local_blend import Region
from weights.load import SHIPPED, load

LARGEST = 25e6  # bytes of the three graphs together
COMPARED = 5  # steps of the images that the JavaScript has to reproduce


def call_of(preset: Preset, tokenizer: PromptTokenizer, steps: int, sampler: str = "ddim") -> Call:
    """The call of a preset."""
    times = preset.times(tokenizer)
    edit = Edit.between(*map(tokenizer.encode, (preset.source, preset.target)), Alpha(times.tau))
    for word, factor in preset.weights.items():
        edit = edit + Reweight(word, factor)
    target = Target.of(preset.target, edit, Region(preset.blend) if preset.blend else None)
    sampling = Sampling(preset.seed, steps, sampler=sampler)
    return Call(preset.source, (target,), SelfInjection(times.until), sampling=sampling)


def images_of(model: LatentDiffusion, preset: Preset, steps: int, sampler: str = "ddim") -> dict[str, np.ndarray]:
    """The source, the same seed with the target's prompt, and the edit, as bytes (H, W, 3)."""
    call = call_of(preset, model.tokenizer, steps, sampler)
    *_, edited = call.start(model)
    sampling = call.sampling.options()
    *_, plain = fixed_seed(model, [preset.source, preset.target], preset.seed, **sampling)
    source, edit = model.decode(edited.z_t)
    return {"source": source, "fixed": model.decode(plain.z_t[1:])[0], "edit": edit}


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def compared(model: LatentDiffusion) -> list[dict]:
    """The presets sampled in few steps, for the JavaScript to reproduce."""
    made = []
    for i, preset in enumerate(PRESETS):
        sampler = ("ddim", "dpm++")[i % 2]
        images = images_of(model, preset, COMPARED, sampler)
        coded = {name: base64.b64encode(image.tobytes()).decode() for name, image in images.items()}
        made.append({"preset": i, "steps": COMPARED, "sampler": sampler, **coded})
    return made


def check(model: LatentDiffusion) -> dict:
    """A call of the UNet for the page to repeat on a GPU, before it trusts one."""
    prompt, seed, t = PRESETS[0].source, PRESETS[0].seed, 500
    z = Noise([seed], model.latent_shape)()
    with torch.no_grad():
        v = model.unet(z, torch.tensor([t - 1]), model.encode_prompts([prompt]))
    return {"prompt": prompt, "seed": seed, "t": t, "v": [round(x, 4) for x in v.flatten()[:256].tolist()]}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    check_writable(FOLDER / "unet.bin")
    model = load("stickers", device="cpu")

    def write(name: str, contents: bytes) -> None:
        save_atomically(lambda part: part.write_bytes(contents), FOLDER / name)

    sizes = {}
    for name, made in tqdm(graphs(model).items(), "graphs", unit="graph", file=sys.stderr):
        packed = pack(made().SerializeToString())
        sizes[name] = len(packed)
        write(f"{name}.bin", packed)
    if sum(sizes.values()) > LARGEST:
        raise ValueError(f"the graphs have {sum(sizes.values())} bytes, the page may load {LARGEST:.0f}")
    write("tokenizer.json", (SHIPPED["stickers"] / "tokenizer.json").read_bytes())
    write("world.json", json.dumps(world(model) | {"sizes": sizes, "check": check(model)}, ensure_ascii=False).encode())
    write("cases.json", json.dumps(cases(model) | {"images": compared(model)}, ensure_ascii=False).encode())
    for name, image in images_of(model, PRESETS[0], STEPS).items():
        write(f"{name}.png", png(image))
    print(f"the graphs have {sum(sizes.values()) / 1e6:.1f} MB: {FOLDER}")
