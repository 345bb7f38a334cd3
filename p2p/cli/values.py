"""Parsers for the values of options, the `type` of argparse; torch is imported when a value needs it."""

import argparse
import math

PLACES = ("down", "mid", "up")


def finite(text: str) -> float:
    """Parse a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def time(text: str):
    """Parse a time: a fraction of T, `t=200`, or `never`."""
    text = text.strip()
    if text == "never":
        return text
    if (step := text.removeprefix("t=")) != text and step.isdecimal():
        from p2p.alpha import Step

        return Step(int(step))
    value = finite(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is more than 1: a number is a fraction of T; a timestep is t={text}")
    return value


def pair(text: str, right: str = "OTHER") -> tuple[str, str]:
    """Parse `A=B`; `right` is the name of B in the error."""
    word, equals, other = (part.strip() for part in text.partition("="))
    if not (word and equals and other):
        raise argparse.ArgumentTypeError(f"{text!r} is not WORD={right}: give {word or 'WORD'}={other or right}")
    return word, other


def window(text: str):
    """Parse `END` or `START:END`."""
    start, colon, end = text.partition(":")
    if not colon:
        return time(text)
    from p2p.alpha import Window

    return Window(time(end), time(start))


def word_window(text: str) -> tuple:
    """Parse `WORD=END` or `WORD=START:END`."""
    word, when = pair(text, "[START:]END")
    return word, window(when)


def weight(text: str):
    """Parse `WORD=C` or `WORD=C@START:END`."""
    from p2p.edits import Reweight

    word, rest = pair(text, "C")
    factor, at, when = rest.partition("@")
    return Reweight(word, finite(factor), window(when) if at else 0.0)


def places(text: str) -> tuple[str, ...]:
    """Parse a list of places in the UNet."""
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    if not chosen or not set(chosen) <= set(PLACES):
        raise argparse.ArgumentTypeError(f"{text!r}: give some of {','.join(PLACES)}")
    return chosen


def box(text: str) -> tuple[int, ...]:
    """Parse `x0,y0,x1,y1`."""
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not x0,y0,x1,y1: four whole numbers, such as 0,0,96,128")
    return tuple(map(int, numbers))


def scale_factor(text: str) -> int:
    """Parse a whole number from 1 to 16."""
    if not (text.isdecimal() and 1 <= int(text) <= 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 16")
    return int(text)
