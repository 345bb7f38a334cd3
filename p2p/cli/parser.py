"""The command line's parser, derived from the options of each command: `p2p --help`."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from p2p import __version__
from p2p.cli import options
from p2p.cli.hints import Parser
from weights.checkpoints import CHECKPOINTS

DESCRIPTION = """\
Generate an image from a prompt, edit it by editing the prompt, and show the attention of each word.

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
DESCRIPTIONS = {
    "edit": "Source and edits side by side. Words that a target shares with the source keep their attention; changed "
    "words are swapped phrase by phrase (a noun for a noun, a preposition for a preposition); new words keep their own "
    "attention. The inferred edit is printed. The options below replace it, and apply to every target; in a file that "
    "--save wrote each target may have its own.",
    "compare": "One figure: the source, the same seed with the new prompt, SDEdit, blending and inpainting by a mask "
    "if one is given, Google's implementation, and Prompt-to-Prompt, which needs no mask. Of an image given by "
    "--image, SDEdit and inpainting start from the image, with the noise of --seed, and all others from its inversion.",
    "restore": "Complete an image by a prompt: what is given stays, the model makes the rest. The file has the model's "
    "size, as have its mask and its grey levels; or the size of the box; or a factor-th of the model's. A model of "
    "super-resolution enlarges any size up to 512x512, in multiples of 8. The output shows the given beside the "
    "restored image.",
    "replay": "Each target of a saved call may have its own edits; `p2p schema` prints the format.",
    "download": "Download a public checkpoint into the Hugging Face cache (HF_HOME), and verify it.\n\n"
    + "\n".join(f"  {name:<24}{c.size / 1e9:4.1f} GB  {c.about}" for name, c in CHECKPOINTS.items()),
}
WHICH = """\
Which edits need which options, from six edits of each kind (docs/which-edit.md): another noun, colour or style, and
an added colour, pattern or weather: the defaults. An added size, and another size, place or relation: --tau 0.8
--self-until 0.8. With these 5 or 6 are right (nouns were tried at tau 0.2, self-until 0.6). A second object added, or
one of two removed: no setting tried gets more than 4 right."""
GROUPS = {"show": ("figures of an edit itself", options.SHOW), "sweep": ("experiments on edits", options.SWEEP)}


def parsed(arguments: Sequence[str] | None = None) -> Any:
    """The options of a command line, an instance of its command's class; by default of `sys.argv`."""
    found = vars(parser().parse_args(arguments))
    command = found["options"]
    given = {f.name: found[f.name] for f in fields(command) if f.name in found}
    return command(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


@cache
def parser() -> argparse.ArgumentParser:
    top = Parser("p2p", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"p2p {__version__}")
    subcommands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for command in options.COMMANDS:
        name = command.command
        _add_command(subcommands, name, command, DESCRIPTIONS.get(name), WHICH if name == "edit" else None)
    for name, (text, figures) in GROUPS.items():
        kinds = subcommands.add_parser(name, help=text).add_subparsers(dest="figure", required=True, metavar="FIGURE")
        for figure, command in figures.items():
            _add_command(kinds, figure, command, command.__doc__)
    return top


def _add_command(
    group: Any, name: str, command: type, description: str | None = None, epilog: str | None = None
) -> None:
    """Add the parser of a command, with the options that its class has; argparse refuses the others."""
    text = command.__doc__.removesuffix(".")
    added = group.add_parser(name, help=text[0].lower() + text[1:], description=description, epilog=epilog)
    if description and "\n" in description:
        added.formatter_class = argparse.RawDescriptionHelpFormatter
    added.set_defaults(options=command)
    found = [f for f in fields(command) if "how" in f.metadata]
    views = added.add_mutually_exclusive_group() if any(f.metadata.get("view") for f in found) else None
    for f in found:
        _add_option(views if f.metadata.get("view") else added, f.name, f.default, f.metadata)


def _add_option(group: Any, name: str, default: Any, metadata: Mapping[str, Any]) -> None:
    how = {"help": metadata["help"], **metadata["how"]}
    if default is MISSING:
        group.add_argument(*(metadata["flags"] or [name]), **how)
        return
    names = [*metadata["flags"]]
    if not any(flag.startswith("--") for flag in names):
        names.append(f"--{name.replace('_', '-')}")
    if default is False:
        how["action"] = "store_true"
    elif how.get("action") == "append":
        default = list(default)
    group.add_argument(*names, dest=name, default=default, **how)
