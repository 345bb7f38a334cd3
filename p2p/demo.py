"""The main job in one figure: `python -m p2p.demo` writes out/demo.png, as `p2p edit --compare` would.

An image; the same seed with one word of the prompt changed, which moves everything; and the Prompt-to-Prompt edit,
which keeps the composition. Under each, where every word of its prompt is looked at.
"""

if __name__ == "__main__":
    from ldm.program import run

    raise SystemExit(run("p2p.demo"))

from pathlib import Path

from ldm.files import check_writable, save_atomically
from p2p.call import Call, Sampling, Target
from p2p.commands import compare
from p2p.edits import Edit
from weights.load import load

SOURCE, TARGET = "a photo of a red car on the street", "a photo of a blue car on the street"
SAMPLING = Sampling(seed=4)
OUTPUT = Path("out/demo.png")


def main() -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    check_writable(OUTPUT)
    model = load("stickers")
    edit = Edit.between(*map(model.tokenizer.encode, (SOURCE, TARGET)))
    image, _ = compare(model, Call(SOURCE, (Target.of(TARGET, edit),), sampling=SAMPLING))
    save_atomically(lambda part: image.save(part, format="PNG"), OUTPUT)
    print(f"look at {OUTPUT}")
