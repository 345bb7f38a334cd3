"""Contact sheets of the included model, for inspection: `python -m p2p.experiments.contact_sheet`.

Writes `contact_sheet.png` (an image for each of 100 captions that no training scene has, not hand-picked) and
`contact_edits.png` (ten swaps: source, the same seed with the new prompt, Prompt-to-Prompt) next to the model.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.experiments.contact_sheet"))

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

import weights.stickers
from ldm.helpers.files import check_writable, save_atomically
from p2p.algorithm import PromptToPrompt
from p2p.edits import Edit
from p2p.experiments.baselines import fixed_seed
from p2p.figures import sheets
from weights.load import load
from weights.training.data import held_out_scenes, training_scenes
from weights.training.train import LATENTS
from weights.training.world import caption

FOLDER = Path(weights.stickers.__file__).parent
SHEET, SHEET_OF_EDITS = "contact_sheet.png", "contact_edits.png"
STEPS, COLUMNS = 30, 10
DPI, SIDE = 60, 128 / 60  # images keep their size in pixels
EDITS = (  # source, target, seed
    ("a photo of a cat on the beach", "a photo of a dog on the beach", 7),
    ("a photo of a red car on the street", "a photo of a blue car on the street", 1),
    ("a photo of an apple on a table", "a photo of a lemon on a table", 2),
    ("a photo of a butterfly at night", "a photo of a balloon at night", 3),
    ("a photo of a castle in the desert", "a photo of a cake in the desert", 4),
    ("a photo of a penguin in the snow", "a photo of an owl in the snow", 5),
    ("a photo of a small house on the grass", "a photo of a small tree on the grass", 6),
    ("a photo of a yellow fish in the sea", "a photo of a purple fish in the sea", 8),
    ("a photo of a panda next to a ball on the grass", "a photo of a lion next to a ball on the grass", 9),
    ("a photo of a strawberry on a table", "a photo of a donut on a table", 10),
)


def held_out_captions(number: int) -> list[str]:
    """The captions of held-out scenes, in order, without those that a training scene has too."""
    trained = {caption(scene) for scene in training_scenes(LATENTS)}
    captions = dict.fromkeys(caption(scene) for scene in held_out_scenes(4 * number))  # about three in five are left
    return [caption for caption in captions if caption not in trained][:number]


def main() -> None:
    for name in (SHEET, SHEET_OF_EDITS):
        check_writable(FOLDER / name)
    model = load("stickers", device="cpu")
    prompts = held_out_captions(100)
    panels = []
    for i in tqdm(range(0, len(prompts), COLUMNS), "captions", unit="row", file=sys.stderr):
        row = prompts[i : i + COLUMNS]
        images = model.generate(row, list(range(i, i + len(row))), steps=STEPS)
        panels.append([(f"{i + j + 1}. {prompt}", image) for j, (prompt, image) in enumerate(zip(row, images))])
    save(sheets.grid(panels, side=SIDE), SHEET)

    rows = []
    for source, target, seed in tqdm(EDITS, "edits", unit="edit", file=sys.stderr):
        edit = Edit.between(*map(model.tokenizer.encode, (source, target)))
        p2p = PromptToPrompt(model, source, (target,), (edit,))
        *_, plain = fixed_seed(model, p2p.prompts, seed, steps=STEPS)
        *_, edited = p2p.denoise(seed, steps=STEPS)
        images = np.concatenate([model.decode(plain.z_t), model.decode(edited.z_t[1:])])
        rows.append(list(zip((source, f"same seed: {target}", f"Prompt-to-Prompt: {target}"), images)))
    halves = [a + b for a, b in zip(rows[:5], rows[5:])]
    save(sheets.grid(halves, side=SIDE), SHEET_OF_EDITS)


def save(figure, name: str) -> None:
    save_atomically(lambda part: sheets.as_image(figure, DPI).save(part, format="PNG"), FOLDER / name)
    print(FOLDER / name)
