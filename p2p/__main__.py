"""The command line: `p2p --help`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm import tqdm

from ldm.files import save_atomically
from ldm.pipeline import LatentDiffusion, State
from ldm.samplers import times
from p2p.call import CALL, Call, Sampling
from p2p.inject import watching
from p2p.local_blend import LocalBlend
from p2p.maps import WordMaps
from p2p.options import add_edit_options, call_of, finite, sampling_of
from p2p.words import words
from weights.load import DTYPES, SHIPPED, load

DESCRIPTION = """\
Make a picture from a prompt, edit it by editing the prompt, and see where each word looked.

  p2p generate "a photo of a red car on the beach" --seed 7 -o car.png
  p2p edit "a photo of a cat on the grass" "a photo of a dog on the grass" --tau 0.2 --seed 7 -o edit.png
  p2p edit "a photo of a cat in fog" "a photo of a cat in fog" --reweight fog=3 -o foggy.png
  p2p edit "a photo of a cat in fog" "a photo of a dog in fog" --save dog.json -o dog.png
  p2p replay dog.json -o again.png
  p2p attention "a photo of a cat next to a castle" --seed 7 -o maps.png
"""


def parser() -> argparse.ArgumentParser:
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png", help="where the picture goes")
    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default %(default)s)")
    machine.add_argument("--dtype", choices=DTYPES, default="float32", help="default %(default)s")
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--model", default="stickers", help=f"{', '.join(SHIPPED)}, or a model's folder")
    common = argparse.ArgumentParser(add_help=False, parents=[output, machine, which])
    common.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    common.add_argument("--steps", type=int, default=30, help="network calls, 1 to T (default %(default)s)")
    common.add_argument(
        "--guidance", type=finite, default=4.0, metavar="W", help="how strongly to follow the prompt; 1 is no guidance"
    )
    common.add_argument("--sampler", choices=["ddim", "ddpm"], default="ddim", help="default %(default)s")
    common.add_argument("--eta", type=finite, default=0.0, help="noise that DDIM adds, 0 (none) to 1 (as DDPM)")

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
    edit.add_argument("--save", type=Path, metavar="FILE.json", help="write the whole call down, to `p2p replay` it")

    replay = commands.add_parser(
        "replay",
        parents=[output, machine],
        help="make an edit again that was saved, or that a picture carries",
        description="Each target of a saved call may have edits of its own; `p2p schema` tells what a file may hold.",
    )
    replay.add_argument("file", type=Path, help="a .json file that --save wrote, or a .png that `p2p edit` made")
    replay.add_argument("--model", help="instead of the file's; needed where that is no model by name")

    commands.add_parser("schema", help="print the JSON schema of saved calls")

    attention = commands.add_parser("attention", parents=[common], help="a picture and the attention map of each word")
    attention.add_argument("prompt")
    return top


def check_output(path: Path, ending: str = ".png") -> None:
    """Raises ValueError if such a file could not be written there."""
    if path.suffix.lower() != ending:
        raise ValueError(f"the output must be a {ending} file, got {str(path)!r}")
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


def save(picture: Image.Image, path: Path, made_by: str) -> None:
    """Write the picture, with the JSON of the call that made it in its metadata."""
    info = PngInfo()
    info.add_itxt("p2p", made_by)
    write(lambda part: picture.save(part, format="PNG", pnginfo=info), path)


def write(fill: Callable[[Path], object], path: Path) -> None:
    try:
        save_atomically(fill, path)
    except OSError as e:
        raise ValueError(f"could not write {path}: {e}") from e
    print(path)


def read_call(path: Path) -> Call:
    """The call in a JSON file, or in the metadata of a picture.

    Raises:
        ValueError: the file can't be read, or holds no edit.
    """
    try:
        if path.suffix.lower() == ".png":
            with Image.open(path) as picture:
                text = picture.info.get("p2p", "")
        else:
            text = path.read_bytes()
    except OSError as e:
        raise ValueError(f"could not read {path}: {e}") from e
    try:
        return Call.from_json(text)
    except ValueError as e:
        raise ValueError(f"{path} holds no edit to replay: {e}") from e


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks.

    Raises:
        ValueError: it asks for something that can't be, and nothing has been sampled; or the picture can't be written.
    """
    if args.command == "schema":
        print(json.dumps(CALL.json_schema(), indent=2))
        return
    check_output(args.output)
    if args.command == "replay":
        call = read_call(args.file)
        if args.model is None and call.model not in SHIPPED:
            raise ValueError(f"{args.file} was made by the model {call.model!r}, which has no name here: give --model")
        edit(load(args.model or call.model, args.device, args.dtype), call, args.output)
        return
    sampling = sampling_of(args)
    if args.command == "edit":
        if args.save:
            check_output(args.save, ".json")
        model = load(args.model, args.device, args.dtype)
        edit(model, call_of(args, model.tokenizer), args.output, args.save)
        return
    model = load(args.model, args.device, args.dtype)
    times(model.schedule.T, sampling.steps)
    made_by = json.dumps({**vars(args), "output": str(args.output)}, ensure_ascii=False)
    context = model.encode_prompts([args.prompt])
    if args.command == "generate":
        state = last(model.denoise(context, [sampling.seed], **sampling.options()), sampling.steps)
        picture = Image.fromarray(model.decode(state.z_t)[0])
    else:
        picture = attention_figure(model, args.prompt, context, sampling)
    save(picture, args.output, made_by)


def edit(model: LatentDiffusion, call: Call, output: Path, saved: Path | None = None) -> None:
    """The source and its targets side by side, and the call itself where it is to be saved."""
    p2p, sampling = call.p2p(model), call.sampling
    times(model.schedule.T, sampling.steps)
    how = sampling.options()
    regions = [target.region for target in call.targets]
    if any(regions):
        source, *targets = map(model.tokenizer.encode, p2p.prompts)
        blend = LocalBlend(source, targets, regions, model.schedule.T)
        how |= {"blend": blend, "watch": blend.maps}
    for target in call.targets:
        print(f"{target.prompt}: {target.edit}", file=sys.stderr)
    pictures = model.decode(last(p2p.denoise(sampling.seed, **how), sampling.steps).z_t)
    save(Image.fromarray(np.concatenate(list(pictures), axis=1)), output, call.to_json())
    if saved:
        write(lambda part: part.write_text(call.to_json() + "\n", encoding="utf-8"), saved)


def attention_figure(model: LatentDiffusion, prompt: str, context: Tensor, sampling: Sampling) -> Image.Image:
    """The picture, and under it the attention map of each word."""
    from p2p import show  # matplotlib takes a second to load, and only this command draws

    tokens, maps = model.tokenizer.encode(prompt), WordMaps()
    if not words(tokens):
        raise ValueError(f"the prompt {prompt!r} has no words to show the attention of")
    states = model.denoise(context, [sampling.seed], edit=lambda t: watching(maps), **sampling.options())
    picture = model.decode(last(states, sampling.steps).z_t)[0]
    return show.as_image(show.attention([(prompt, picture, maps.of_words(0, tokens))]))


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
