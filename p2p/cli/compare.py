"""`p2p compare`: its options, and what it makes. The options need no torch."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from p2p.api import COMPARING


def add_compare(
    commands: argparse._SubParsersAction,
    parents: Sequence[argparse.ArgumentParser],
    edit: Sequence[Callable[[argparse.ArgumentParser], None]],
    number: Callable[[str], float],
) -> None:
    """Add the command. `parents` has the options of sampling, `edit` adds those of an edit, `number` reads a number."""
    compare = commands.add_parser(
        "compare",
        parents=parents,
        help="an edit beside the methods that Prompt-to-Prompt is compared with",
        description="One figure: the source, the same seed with the new prompt, SDEdit, blending and inpainting by a "
        "mask if one is given, Google's implementation, and Prompt-to-Prompt, which needs no mask.",
    )
    compare.add_argument("source", help="the prompt of the image")
    compare.add_argument("targets", nargs="+", metavar="target", help="the edited prompt, or several")
    compare.add_argument("--mask", type=Path, metavar="FILE", help="white where targets may differ")
    compare.add_argument(
        "--t0",
        dest="t_0",
        type=number,
        default=COMPARING["t_0"],
        metavar="T0",
        help="of SDEdit: how far the source is noised, as a fraction of T (default %(default)s)",
    )
    for add in edit:
        add(compare)


def compare(args: argparse.Namespace, model=None):
    """The `Comparison`, of a model that is loaded or to be loaded, and the files that were written.

    Raises:
        ValueError, OSError: it asks for something that can't be, and nothing has been sampled.
    """
    from p2p.cli.calls import call_of, sampling_of
    from p2p.cli.commands import Made
    from p2p.cli.run import check_files, check_use, load_model, save
    from p2p.comparison import compared
    from p2p.masks import drawn_mask, read_mask

    check_files(args)
    check_use(args)
    sampling_of(args)  # refuses what it can before a model is loaded
    model = load_model(args) if model is None else model
    mask = args.mask
    if mask is not None:
        read = read_mask if isinstance(mask, Path) else drawn_mask
        mask = read(mask, model.latent_shape[1:], model.config.autoencoder.factor)
    everywhere = dict(mask=None, blend=None, blend_from=None, self_side=None, layers=("down", "mid", "up"))
    call = call_of(argparse.Namespace(**vars(args) | everywhere), model)
    result = compared(model, call, mask, args.t_0)
    made_by = json.dumps({"command": "compare", "t_0": args.t_0, "call": json.loads(call.to_json())})
    return result, save(Made(result.image), args.output, made_by) if args.output else []
