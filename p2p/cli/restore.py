"""`p2p restore`: its options, and what it makes. The options need no torch."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from p2p.api import RESTORING

TASKS = ("inpaint", "uncrop", "colour", "super")
TASK = """\
inpaint: paint inside the white of --mask. uncrop: paint around the image, which fills --box. colour: colour the image
by its grey levels. super: enlarge the image --factor times."""

SAMPLING = {
    "seed": (int, "of the noise"),
    "steps": (int, "from noise to image"),
    "guidance": (float, "how strongly to follow the prompt; 1 is no guidance"),
    "eta": (float, "noise that each step adds, 0 to 1"),
    "visits": (int, "time travel: how often each stretch of steps is taken, to fit what is made to what is given"),
    "length": (int, "of such a stretch, in steps"),
}


def box(text: str) -> tuple[int, ...]:
    """`x0,y0,x1,y1`, for argparse."""
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not x0,y0,x1,y1: four whole numbers, such as 0,0,96,128")
    return tuple(map(int, numbers))


def add_restore(
    commands: argparse._SubParsersAction, parents: Sequence[argparse.ArgumentParser], model: str, number
) -> None:
    """Add the command. `parents` has its output and how a model is loaded; `model` is the help of --model, and `number`
    reads a number."""
    restore = commands.add_parser(
        "restore",
        parents=parents,
        help="inpaint, uncrop, colour or enlarge an image file",
        description="Complete an image by a prompt: what is given stays, the model makes the rest. The file has the "
        "model's size, as have its mask and its grey levels; or the size of the box; or a factor-th of the model's. "
        "What is written shows the given beside the restored image.",
    )
    restore.add_argument("--task", choices=TASKS, required=True, help=TASK)
    restore.add_argument("--image", type=Path, required=True, metavar="FILE", help="the image to restore")
    restore.add_argument("--prompt", default=RESTORING["prompt"], help="what the whole image shows (default: nothing)")
    restore.add_argument("--mask", type=Path, metavar="FILE", help="of inpaint: an image that is white where to paint")
    restore.add_argument("--box", type=box, metavar="x0,y0,x1,y1", help="of uncrop: where in the result the image is")
    restore.add_argument("--factor", type=int, metavar="N", help="of super: how many times to enlarge (default 4)")
    restore.add_argument("--model", default=RESTORING["model"], help=model)
    for name, (kind, text) in SAMPLING.items():
        reads = number if kind is float else kind
        restore.add_argument(f"--{name}", type=reads, default=RESTORING[name], help=f"{text} (default %(default)s)")


def restore(args: argparse.Namespace, model=None):
    """The `Restored` image, of a model that is loaded or to be loaded, and the files that were written.

    Raises:
        ValueError, OSError: it asks for something that can't be, and nothing has been sampled.
    """
    from p2p.call import Sampling
    from p2p.cli.commands import Made
    from p2p.cli.run import check_files, load_model, save
    from p2p.restoration import as_pixels, check_settings, given_by, restored

    check_files(args)
    settings = {name: getattr(args, name) for name in ("mask", "box", "factor")}
    check_settings(args.task, **settings)
    if args.output and isinstance(args.image, Path) and args.output.resolve() == args.image.resolve():
        raise ValueError(f"the output {str(args.output)!r} would overwrite the image: give it another name")
    sampling = Sampling(args.seed, args.steps, args.guidance, eta=args.eta)  # refuses what it can before loading
    image = as_pixels(args.image)
    model = load_model(args) if model is None else model
    given = given_by(args.task, image, model.config.image_size, **settings)
    result = restored(model, given, args.prompt, sampling, args.visits, args.length)
    said = {name: getattr(args, name) for name in ("task", "prompt", "box", "factor", *SAMPLING)}
    made_by = json.dumps({"command": "restore", **said, "model": str(args.model)}, ensure_ascii=False)
    return result, save(Made(result.image), args.output, made_by)
