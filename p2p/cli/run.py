"""What the options ask for: reads the call and the model, makes the image, and writes files."""

import argparse
import json
import re
import sys
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldm.config import PRESETS
from ldm.helpers.files import check_writable, save_atomically
from ldm.pipeline import LatentDiffusion
from p2p.call import CALL, Call
from p2p.cli import commands
from p2p.cli.calls import call_of, sampling_of
from p2p.cli.compare import compare
from p2p.cli.restore import restore
from p2p.cli.unknown_words import warn_of_unknown_words
from p2p.equations.explain import explanation
from p2p.equations.register import listing
from p2p.masks import decoding
from p2p.result import Result, prompts_of
from weights.checkpoints import fetched
from weights.load import load, load_vocabulary

FILES = {  # options that name a file to write, and its endings
    "output": (".png",),
    "save": (".json",),
    "gif": (".gif",),
    "save_maps": (".npz",),
    "data": (".csv", ".json"),
}
LONE = {"a", "an", "the", "of", "on", "in", "at", "with", "and", "to"}  # what no prompt is by itself


def read_call(path: Path) -> Call:
    """The call in a JSON file, or in the metadata of a picture.

    Raises:
        ValueError: the file can't be read, or holds no edit.
    """
    if path.suffix.lower() == ".png":
        with decoding(str(path)), Image.open(path) as picture:
            text = str(picture.info.get("p2p", ""))
        if not text:
            raise ValueError(f"{path} holds no edit to replay: `p2p edit` did not make it, or its metadata is gone")
        if other := re.search(r'"command": "(\w+)"', text):
            raise ValueError(f"{path} was made by `p2p {other[1]}`: only what `p2p edit` made can be replayed")
    else:
        try:
            text = path.read_bytes()
        except OSError as e:
            raise ValueError(f"could not read {path}: {e}") from e
    try:
        return Call.from_json(text)
    except ValueError as e:
        raise ValueError(f"{path} holds no edit to replay: {e}") from e


def check_files(args: argparse.Namespace) -> None:
    """Raises ValueError or OSError for a file to write that could not be written."""
    for option, endings in FILES.items():
        path: Path | None = getattr(args, option, None)
        if path is None:
            continue
        if path.suffix.lower() not in endings:
            raise ValueError(f"the output must be a {' or '.join(endings)} file, got {str(path)!r}")
        if not path.parent.is_dir():
            raise ValueError(f"the output's folder {str(path.parent)!r} does not exist")
        check_writable(path)
        if "mask" in args and isinstance(args.mask, Path) and args.mask.resolve() == path.resolve():
            raise ValueError(f"the output {str(path)!r} would overwrite the mask: give it another name")


def check_use(args: argparse.Namespace) -> None:
    """Raises ValueError for options that nothing would use, and for prompts that lack their quotes."""
    prompts = [args.source, *args.targets] if "targets" in args else []
    if len(prompts) > 2 and (lone := [prompt for prompt in prompts if prompt.lower() in LONE]):
        raise ValueError(f"{lone[0]!r} is no prompt by itself: put each prompt of several words in quotes")
    if getattr(args, "seeds", None) is not None:
        if args.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {args.seeds}")
        if idle := [name for name in ("--gif", "--save-maps") if getattr(args, name[2:].replace("-", "_"), None)]:
            raise ValueError(f"{idle[0]} is of one seed: leave out --seeds")
    if "compare" in args and args.scale and not args.compare:
        raise ValueError("--scale is of the maps that --compare draws: give both")


def save(made: commands.Made, output: Path | None, made_by: str) -> list[Path]:
    """Write the image, with the JSON of the call that made it in its metadata, and the files beside it; which they
    are."""
    info = PngInfo()
    info.add_itxt("p2p", made_by)
    fill = lambda part: made.image.save(part, format="PNG", pnginfo=info)
    files = ({output: fill} if output else {}) | made.also
    for path, fill in files.items():
        save_atomically(fill, path)
    return list(files)


def load_model(args: argparse.Namespace) -> LatentDiffusion:
    """The model that is asked for; a warning names the words of the prompts that it does not know."""
    how = dict(ema=not args.no_ema, parameterisation=args.parameterisation)
    model = load(args.model, args.device, args.dtype, **how)
    given = vars(args)
    prompts = [given[name] for name in ("prompt", "source", "target") if name in given] + given.get("targets", [])
    warn_of_unknown_words(model, prompts)
    return model


def edit(args: argparse.Namespace, model: LatentDiffusion | None = None) -> tuple[Result, list[Path]]:
    """An edit, of a model that is loaded or to be loaded; and the files that were written: the image, beside it the
    call, the maps and the animation, where they are asked for.

    Raises:
        ValueError, OSError: it asks for something that can't be, and nothing has been sampled.
    """
    check_files(args)
    check_use(args)
    sampling_of(args)  # refuses what it can before a model is loaded
    model = load_model(args) if model is None else model
    call = call_of(args, model)
    made = commands.edit(model, call, args)
    if args.save:
        made.also[args.save] = lambda part: part.write_text(call.to_json() + "\n", encoding="utf-8")
    return made.result, save(made, args.output, call.to_json())


def replay(args: argparse.Namespace, model: LatentDiffusion | None = None) -> tuple[Result, list[Path]]:
    """An edit made again, from a file or a call, as `edit` makes it. Raises as `edit`."""
    check_files(args)
    check_use(args)
    saved = not isinstance(args.file, Call)
    call, name = (read_call(args.file), args.file) if saved else (args.file, "the call")
    if args.model is None and call.model not in PRESETS:  # no path is taken from a file
        raise ValueError(f"{name} was made by the model {call.model!r}, which has no name here: give --model")
    if args.model is None and saved:  # a file from elsewhere may name a model that is gigabytes to download
        print(f"{name} asks for the model {call.model}", file=sys.stderr)
    call = replace(
        call,
        model=str(args.model or call.model),
        ema=call.ema and not args.no_ema,
        parameterisation=args.parameterisation or call.parameterisation,
    )
    how = dict(ema=call.ema, parameterisation=call.parameterisation)
    model = load(args.model or call.model, args.device, args.dtype, **how) if model is None else model
    warn_of_unknown_words(model, prompts_of(call))
    made = commands.edit(model, call, args)
    return made.result, save(made, args.output, call.to_json())


def picture(args: argparse.Namespace, model: LatentDiffusion | None = None) -> tuple[Image.Image, list[Path]]:
    """The image or figure of any other command; and the files that were written. Raises as `edit`."""
    check_files(args)
    check_use(args)
    sampling = sampling_of(args)
    model = load_model(args) if model is None else model
    sampling.times(model.schedule)
    said = {k: v for k, v in vars(args).items() if k != "make" and k not in FILES}
    write_out = lambda value: asdict(value) if is_dataclass(value) else str(value)  # a window or a weight; a path
    made = getattr(commands, args.make)(model, args)
    return made.image, save(made, args.output, json.dumps(said, default=write_out, ensure_ascii=False))


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks.

    Raises:
        ValueError: it asks for something that can't be, and nothing has been sampled.
        FloatingPointError: its settings lead to numbers that are not finite.
        OSError: something can't be written.
    """
    if args.command == "schema":
        print(json.dumps(CALL.json_schema(), indent=2))
        return
    if args.command == "equations":
        print(explanation(args.id) if args.id else listing())
        return
    if args.command == "vocabulary":
        words = load_vocabulary(args.model)
        if words is None:
            raise ValueError(f"{args.model} does not list the words it was trained on: its prompts are free text")
        print(words)
        return
    if args.command == "download":
        print(fetched(args.name))
        return
    _, files = {"edit": edit, "replay": replay, "compare": compare, "restore": restore}.get(args.command, picture)(args)
    print(*files, sep="\n")
