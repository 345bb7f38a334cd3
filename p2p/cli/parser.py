"""The command line's subcommands and what each of them takes: `p2p --help`."""

import argparse
from pathlib import Path

from p2p import __version__
from p2p.cli.compare import add_compare
from p2p.cli.hints import Parser
from p2p.cli.options import (
    DEFAULTS,
    add_claims,
    add_maps,
    add_places,
    add_self_times,
    add_swept_claims,
    add_times,
    add_views,
    add_weights,
    finite,
)
from p2p.cli.restore import add_restore
from weights.checkpoints import CHECKPOINTS

DESCRIPTION = """\
Make a picture from a prompt, edit it by editing the prompt, and see where each word looked.

  p2p generate "a photo of a red car on the beach" --seed 7 -o car.png
  p2p edit "a photo of a cat on the grass" "a photo of a dog on the grass" --tau 0.2 --seed 7 -o edit.png
  p2p edit "a photo of a cat on the grass" "a photo of a dog on the grass" --compare --seed 7 -o compare.png
  p2p edit "a photo of a cat in fog" "a photo of a cat in fog" --reweight fog=3 -o foggy.png
  p2p edit "a photo of a cat in fog" "a photo of a dog in fog" --save dog.json -o dog.png
  p2p replay dog.json -o again.png
  p2p attention "a photo of a cat next to a castle" --seed 7 -o maps.png
  p2p attention "a photo of a cat next to a castle" --seed 7 --by step -o steps.png
  p2p show mapper "a photo of a cat" "a photo of an elephant" -o mapper.png
  p2p sweep tau "a photo of a cat on the grass" "a photo of a dog on the grass" -o tau.png
  p2p download sd15
  p2p edit "a photo of a cat" "a photo of a dog" --model sd15 --steps 50 --guidance 7.5 -o sd.png
"""
MODEL = """\
stickers, which ships; a public checkpoint by name, downloaded on first use (see `p2p download --help`); a
diffusers folder; a CompVis file (.safetensors or .ckpt); or PRESET=FILE for a file that could be of several models.
Stable Diffusion likes 50 steps and a guidance of 7.5, sd-turbo 4 steps and a guidance of 1. Default %(default)s"""
SAMPLER = """\
how a step is made of what the network says: ddim follows its latest word in a straight line; plms (Stable Diffusion's
own, one network call more than steps) and dpm++ also look back, and need fewer steps; ddpm adds fresh noise at every
step, and needs more of them; euler is ddim by its other name, and ends at the clean latent even where the model's
settings let ddim stop a step short. Default %(default)s"""
# as ldm.samplers, weights.load and p2p.cli.commands have them, which import torch
SAMPLERS = ("ddim", "ddpm", "plms", "dpm++", "euler")
DTYPES = ("float32", "bfloat16", "float16")
ATTENTION = ("word", "step", "layer", "component")
BY = """\
what to show beside the image. word: where each word is looked at, over all steps. step: the same at eight of the steps.
layer: the same in each part and at each resolution of the UNet. component: what self-attention sees, words aside, as
its principal components: positions of one colour look at the same places. Default %(default)s"""
FIGURES = {  # of an edit, and of experiments: what makes each, what it shows, and which options of an edit it uses
    "show": {
        "mapper": (
            "matrices",
            "the mapper M, and P_t and Q_t wherever they change, as heat maps with tokens",
            (add_times, add_claims, add_weights),
        ),
        "schedule": (
            "schedule",
            "when each token uses the source's attention, as a timeline",
            (add_times, add_claims, add_self_times),
        ),
    },
    "sweep": {
        "tau": (
            "sweep_tau",
            "cross-attention injected from never to always: what each tau keeps and follows",
            (add_swept_claims, add_weights),
        ),
        "window": (
            "sweep_window",
            "cross-attention injected in one window of the steps at a time, and what each keeps",
            (add_swept_claims, add_weights),
        ),
        "word": (
            "sweep_word",
            "the cross-attention of all words injected, of one word alone, and of none",
            (add_times,),
        ),
    },
}


def parser() -> argparse.ArgumentParser:
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png", help="where the picture goes")
    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument(
        "--device",
        default=DEFAULTS["device"],
        help="cpu, cuda, cuda:1, mps, or auto: a GPU if there is one (default %(default)s)",
    )
    machine.add_argument(
        "--dtype",
        choices=DTYPES,
        default=DEFAULTS["dtype"],
        help="float16 halves a GPU's memory and time (default %(default)s)",
    )
    machine.add_argument("--no-ema", action="store_true", help="of a file with both, take the weights not averaged")
    machine.add_argument(
        "--parameterisation",
        choices=("eps", "v"),
        help="what the UNet predicts, of a file that does not show it (default: as the model's files say, else eps)",
    )
    visited = argparse.ArgumentParser(add_help=False, parents=[output, machine])
    visited.add_argument("--model", default=DEFAULTS["model"], help=MODEL)
    visited.add_argument(
        "--steps", type=int, default=DEFAULTS["steps"], help="from noise to picture, at most T (default %(default)s)"
    )
    visited.add_argument("--sampler", choices=SAMPLERS, default=DEFAULTS["sampler"], help=SAMPLER)
    common = argparse.ArgumentParser(add_help=False, parents=[visited])
    common.add_argument(
        "--seed",
        type=int,
        default=DEFAULTS["seed"],
        help="of the noise; the same seed gives the same picture (default %(default)s)",
    )
    common.add_argument(
        "--guidance",
        type=finite,
        default=DEFAULTS["guidance"],
        metavar="W",
        help="how strongly to follow the prompt; 1 is no guidance (default %(default)s)",
    )
    common.add_argument(
        "--eta",
        type=finite,
        default=DEFAULTS["eta"],
        help="noise that each step of ddim adds, 0 (none, the default) to 1 (as ddpm)",
    )

    top = Parser("p2p", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"p2p {__version__}")
    subcommands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    generate = subcommands.add_parser("generate", parents=[common], help="a picture from a prompt")
    generate.add_argument("prompt")
    add_views(generate, compared=False)
    generate.set_defaults(make="generate")

    edit = subcommands.add_parser(
        "edit",
        parents=[common],
        help="a picture and its edits, side by side",
        description="Source and edits side by side. Words that a target shares with the source keep their attention, "
        "words in the place of others are swapped phrase by phrase (a noun for a noun, a preposition for a "
        "preposition), words that are new have their own; what was read is printed. The options below say otherwise, "
        "and hold for every target; in a file that --save writes each may have its own.",
        epilog="Which options an edit needs, by six of each kind (docs/which-edit.md): a noun, colour or style for "
        "another, and a colour, pattern or weather added: the defaults. A size added, and a size, place or relation "
        "for another: --tau 0.8 --self-until 0.8. These are right in 5 or 6. A second thing added, or one of two "
        "taken away: nothing tried is right in more than 3.",
    )
    edit.add_argument("source", help="the prompt of the picture")
    edit.add_argument("targets", nargs="+", metavar="target", help="the edited prompt, or several")
    for add in (add_times, add_claims, add_weights, add_self_times, add_places, add_views, add_maps):
        add(edit)
    edit.add_argument("--save", type=Path, metavar="FILE.json", help="write the whole call down, to `p2p replay` it")
    edit.add_argument("--gif", type=Path, metavar="FILE.gif", help="the steps as an animation, source beside targets")

    replay = subcommands.add_parser(
        "replay",
        parents=[output, machine],
        help="make an edit again that was saved, or that a picture carries",
        description="Each target of a saved call may have edits of its own; `p2p schema` tells what a file may hold.",
    )
    replay.add_argument("file", type=Path, help="a .json file that --save wrote, or a .png that `p2p edit` made")
    replay.add_argument("--model", help="instead of the file's; needed where that is a path, which is never followed")
    add_views(replay)
    add_maps(replay)

    download = subcommands.add_parser(
        "download",
        help="fetch a public checkpoint, verified",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Fetch a public checkpoint into the Hugging Face cache (HF_HOME), and verify what came.\n\n"
        + "\n".join(f"  {name:<16}{c.size / 1e9:4.1f} GB  {c.about}" for name, c in CHECKPOINTS.items()),
    )
    download.add_argument("name", choices=CHECKPOINTS, metavar="NAME", help="one of the above")

    vocabulary = subcommands.add_parser("vocabulary", help="list the words that a model was trained on")
    vocabulary.add_argument("--model", default="stickers", help="one that lists its words (default %(default)s)")

    subcommands.add_parser("schema", help="print the JSON schema of saved calls")
    equations = subcommands.add_parser("equations", help="the lecture's formulas; with an ID, one in full")
    equations.add_argument("id", nargs="?", metavar="ID", help="such as D7; without it all are listed")

    attention = subcommands.add_parser(
        "attention", parents=[common], help="a picture and what its attention sees: the map of each word, and more"
    )
    attention.add_argument("prompt")
    attention.add_argument("--by", choices=ATTENTION, default="word", help=BY)
    add_maps(attention)
    attention.set_defaults(make="attention")

    add_compare(subcommands, [common], (add_times, add_claims, add_weights, add_self_times), finite)
    add_restore(subcommands, [output, machine], MODEL, finite)

    show = subcommands.add_parser("show", help="figures of an edit itself")
    sweep = subcommands.add_parser("sweep", help="experiments: one edit made in many ways, and measured")
    for group, of in ((show, "show"), (sweep, "sweep")):
        kinds = group.add_subparsers(dest="figure", required=True, metavar="FIGURE")
        for name, (make, text, options) in FIGURES[of].items():
            # what shows an edit itself samples nothing, and only asks which time steps are visited
            parent = visited if of == "show" else common
            figure = kinds.add_parser(name, parents=[parent], help=text, description=text)
            figure.set_defaults(make=make)
            figure.add_argument("source", help="the prompt of the picture")
            if of == "show":
                figure.add_argument("target", help="the edited prompt")
            else:
                figure.add_argument("targets", nargs="+", metavar="target", help="the edited prompt, or several")
            if name == "word":
                figure.add_argument("--word", required=True, help="the word to preserve")
            if name in ("tau", "window"):
                figure.add_argument(
                    "--seeds",
                    type=int,
                    default=1,
                    metavar="N",
                    help="measure so many, from --seed on (default %(default)s)",
                )
                numbers = "write what was measured, for each seed: a .csv or a .json file"
                figure.add_argument("--data", type=Path, metavar="FILE", help=numbers)
            for add in options:
                add(figure)
    return top
