"""Prompt-to-Prompt in one figure: `python -m p2p.cli.demo` writes out/demo.png, as `p2p edit --compare` would.

An image; the same seed with one word of the prompt changed, which moves everything; and the Prompt-to-Prompt edit,
which preserves the composition. Under each, the attention map of every word of its prompt.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.cli.demo"))

from pathlib import Path

from ldm.helpers.files import check_writable, save_atomically
from p2p.call import Call, Sampling, Target
from p2p.cli.commands import compare
from p2p.edits import Edit
from weights.load import load

SOURCE, TARGET = "a photo of a red car on the street", "a photo of a blue car on the street"
SAMPLING = Sampling(seed=4)
OUTPUT = Path("out/demo.png")


def main() -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    check_writable(OUTPUT)
    model = load("stickers")
    tokens = [model.tokenizer.encode(prompt) for prompt in (SOURCE, TARGET)]
    call = Call(SOURCE, (Target.of(TARGET, Edit.between(*tokens)),), sampling=SAMPLING)
    image, _ = compare(call.p2p(model, tokens), call)
    save_atomically(lambda part: image.save(part, format="PNG"), OUTPUT)
    print(f"look at {OUTPUT}")
