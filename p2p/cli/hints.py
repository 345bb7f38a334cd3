"""An argument parser with one-line errors that name the fix."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable


class Parser(argparse.ArgumentParser):
    """argparse's parser with one-line errors; its subparsers are of this class too."""

    given: list[str]  # the raw arguments

    def parse_known_args(self, args=None, namespace=None):
        self.given = list(sys.argv[1:] if args is None else args)
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(self._unrecognised(left, found))
        return found, left

    def error(self, message: str) -> None:
        """Print the message on one line, without the usage, which is longer than a screen. Raises SystemExit with code
        2."""
        self.exit(2, f"{self.prog}: error: {message}{self._dashed(message)}; see `{self.prog} --help`\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            text = f"no {value!r}{meant(str(value), action.choices)} Give one of {', '.join(map(str, action.choices))}"
            raise argparse.ArgumentError(action, text)

    def _unrecognised(self, left: list[str], found: argparse.Namespace) -> str:
        text = f"unrecognized arguments: {' '.join(left)}"
        if option := next((word for word in left if word.startswith("-")), None):
            options = re.findall(r"--[a-z][a-z0-9-]*", self.format_usage())
            return text + meant(option.partition("=")[0], options).rstrip("?.")
        if "prompt" in found:
            return f'{text}: a prompt of several words goes in quotes: "{" ".join([found.prompt, *left])}"'
        if "source" in found:
            return f"{text}: prompts of several words go in quotes, each in its own"
        return text

    def _dashed(self, message: str) -> str:
        """The hint for a value that argparse took for an option."""
        missing = re.fullmatch(r"argument (\S+): expected one argument", message)
        for option, value in zip(self.given, self.given[1:]):
            if missing and option in missing[1].split("/") and value.startswith("-"):
                return f": a value that begins with - is joined to its option, as in {option}={value}"
        return ""


def meant(word: str, known: Iterable[str]) -> str:
    """The ending of a message about an unknown word: `: did you mean ...?`, or a full stop if none is similar."""
    near = difflib.get_close_matches(word, list(map(str, known)), n=1)
    return f": did you mean {near[0]!r}?" if near else "."
