"""The main job in one picture: `python -m p2p.demo` writes out/demo.png.

A picture; the same seed with one word of the prompt changed, which moves everything; and the Prompt-to-Prompt edit,
which keeps the composition. Under each, where every word of its prompt looked.
"""

import sys
from pathlib import Path

from tqdm import tqdm

from ldm.files import save_atomically
from p2p import show
from p2p.algorithm import PromptToPrompt
from p2p.baselines import fixed_seed
from p2p.edits import Edit
from p2p.inject import watching
from p2p.maps import WordMaps
from weights.load import load

SOURCE, TARGET = "a photo of a red car on the street", "a photo of a blue car on the street"
SEED, STEPS = 1, 30
OUTPUT = Path("out/demo.png")


def main() -> None:
    model = load("stickers")
    edit = Edit.between(*map(model.tokenizer.encode, (SOURCE, TARGET)))
    p2p = PromptToPrompt(model, SOURCE, (TARGET,), (edit,))
    plain_maps, edited_maps = WordMaps(), WordMaps()
    plain_run = fixed_seed(model, p2p.prompts, SEED, steps=STEPS, edit=lambda t: watching(plain_maps))
    *_, plain = tqdm(plain_run, "same seed", total=STEPS, unit="step", file=sys.stderr)
    edited_run = p2p.denoise(SEED, watch=edited_maps, steps=STEPS)
    *_, edited = tqdm(edited_run, "Prompt-to-Prompt", total=STEPS, unit="step", file=sys.stderr)
    (source, baseline), target = model.decode(plain.z_t), model.decode(edited.z_t[1:])[0]

    tokens, target_tokens = model.tokenizer.encode(SOURCE), model.tokenizer.encode(TARGET)
    figure = show.attention(
        [
            (SOURCE, source, plain_maps.of_words(0, tokens)),
            (f"same seed, prompt changed:\n{TARGET}", baseline, plain_maps.of_words(1, target_tokens)),
            (f"Prompt-to-Prompt:\n{TARGET}", target, edited_maps.of_words(1, target_tokens)),
        ]
    )
    OUTPUT.parent.mkdir(exist_ok=True)
    save_atomically(lambda part: show.as_image(figure).save(part, format="PNG"), OUTPUT)
    print(f"look at {OUTPUT}")


if __name__ == "__main__":
    main()
