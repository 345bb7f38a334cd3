"""The command line: `p2p --help`."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm import tqdm

from ldm.files import save_atomically
from ldm.pipeline import LatentDiffusion, State
from ldm.samplers import ddim_step, ddpm_step, times
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.inject import watching
from p2p.local_blend import LocalBlend
from p2p.maps import WordMaps
from p2p.options import add_edit_options, edit_of, finite, region_of
from p2p.words import words
from weights.load import DTYPES, SHIPPED, load

DESCRIPTION = """\
Make a picture from a prompt, edit it by editing the prompt, and see where each word looked.

  p2p generate "a photo of a red car on the beach" --seed 7 -o car.png
  p2p edit "a photo of a cat on the grass" "a photo of a dog on the grass" --tau 0.2 --seed 7 -o edit.png
  p2p edit "a photo of a cat in fog" "a photo of a cat in fog" --reweight fog=3 -o foggy.png
  p2p attention "a photo of a cat next to a castle" --seed 7 -o maps.png
"""


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png", help="where the picture goes")
    common.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    common.add_argument("--steps", type=int, default=30, help="network calls, 1 to T (default %(default)s)")
    common.add_argument(
        "--guidance", type=finite, default=4.0, metavar="W", help="how strongly to follow the prompt; 1 is no guidance"
    )
    common.add_argument("--sampler", choices=["ddim", "ddpm"], default="ddim", help="default %(default)s")
    common.add_argument("--eta", type=finite, default=0.0, help="noise that DDIM adds, 0 (none) to 1 (as DDPM)")
    common.add_argument("--model", default="stickers", help=f"{', '.join(SHIPPED)}, or a model's folder")
    common.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default %(default)s)")
    common.add_argument("--dtype", choices=DTYPES, default="float32", help="default %(default)s")

    top = argparse.ArgumentParser("p2p", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)

    generate = commands.add_parser("generate", parents=[common], help="a picture from a prompt")
    generate.add_argument("prompt")

    edit = commands.add_parser(
        "edit",
        parents=[common],
        help="a picture and its edits, side by side",
        description="Source and edits side by side. Words that a target shares with the source keep their attention, "
        "words in the place of others are swapped, words that are new have their own.",
    )
    edit.add_argument("source", help="the prompt of the picture")
    edit.add_argument("targets", nargs="+", metavar="target", help="the edited prompt, or several")
    add_edit_options(edit)

    attention = commands.add_parser("attention", parents=[common], help="a picture and the attention map of each word")
    attention.add_argument("prompt")
    return top


def sampling(args: argparse.Namespace) -> dict:
    """Keyword arguments for `denoise`.

    Raises:
        ValueError: the seed or eta is out of range, or eta is given to a sampler that has none.
    """
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"the seed must lie in 0..2^63-1, got {args.seed}")
    if args.sampler == "ddpm" and args.eta:
        raise ValueError("--eta belongs to the ddim sampler; ddpm adds all its noise already")
    step = ddpm_step if args.sampler == "ddpm" else ddim_step(args.eta)
    return {"steps": args.steps, "guidance": args.guidance, "step": step}


def check_output(path: Path) -> None:
    """Raises ValueError if a PNG could not be written there."""
    if path.suffix.lower() != ".png":
        raise ValueError(f"the output must be a .png file, got {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"the output {str(path)!r} is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"the output's folder {str(path.parent)!r} does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"the output {str(path)!r} may not be written")


def last(states: Iterator[State], steps: int) -> State:
    """Run the sampler to its end, with a progress bar."""
    *_, state = tqdm(states, total=steps, unit="step", file=sys.stderr)
    return state


def call(args: argparse.Namespace) -> str:
    """The full call, as the picture's metadata keeps it."""
    return json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}, ensure_ascii=False)


def save(picture: Image.Image, args: argparse.Namespace) -> None:
    info = PngInfo()
    info.add_itxt("p2p", call(args))
    try:
        save_atomically(lambda part: picture.save(part, format="PNG", pnginfo=info), args.output)
    except OSError as e:
        raise ValueError(f"could not write {args.output}: {e}") from e
    print(args.output)


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks.

    Raises:
        ValueError: it asks for something that can't be, and nothing has been sampled; or the picture can't be written.
    """
    check_output(args.output)
    how = sampling(args)
    model = load(args.model, args.device, args.dtype)
    times(model.schedule.T, args.steps)
    if args.command == "edit":
        save(edited(model, args, how), args)
        return
    context = model.encode_prompts([args.prompt])
    if args.command == "generate":
        state = last(model.denoise(context, [args.seed], **how), args.steps)
        save(Image.fromarray(model.decode(state.z_t)[0]), args)
    else:
        save(attention_figure(model, context, args, how), args)


def edited(model: LatentDiffusion, args: argparse.Namespace, how: dict) -> Image.Image:
    """The source and its targets side by side."""
    source, *targets = map(model.tokenizer.encode, (args.source, *args.targets))
    edits = tuple(edit_of(args, source, target) for target in targets)
    p2p = PromptToPrompt(model, args.source, tuple(args.targets), edits, SelfInjection(args.self_until))
    for edit, target in zip(edits, args.targets):
        print(f"{target}: {edit}", file=sys.stderr)
    if region := region_of(args):
        blend = LocalBlend(source, targets, [region] * len(targets), model.schedule.T)
        how = {**how, "blend": blend, "watch": blend.maps}
    pictures = model.decode(last(p2p.denoise(args.seed, **how), args.steps).z_t)
    return Image.fromarray(np.concatenate(list(pictures), axis=1))


def attention_figure(model: LatentDiffusion, context: Tensor, args: argparse.Namespace, how: dict) -> Image.Image:
    """The picture, and under it the attention map of each word."""
    from p2p import show  # matplotlib takes a second to load, and only this command draws

    tokens, maps = model.tokenizer.encode(args.prompt), WordMaps()
    if not words(tokens):
        raise ValueError(f"the prompt {args.prompt!r} has no words to show the attention of")
    states = model.denoise(context, [args.seed], edit=lambda t: watching(maps), **how)
    picture = model.decode(last(states, args.steps).z_t)[0]
    found = maps.of_words(0, tokens)
    return show.as_image(show.attention([(args.prompt, picture, found)]))


def main() -> None:
    args = parser().parse_args()
    try:
        run(args)
    except ValueError as e:
        sys.exit(f"p2p: error: {e}")
    except KeyboardInterrupt:
        sys.exit("p2p: interrupted; nothing was written")


if __name__ == "__main__":
    main()
