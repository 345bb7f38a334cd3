"""An exercise: a function to write, and what is typically wrong with it.

The right answer is a formula written out here, never the package's own function: the test run holds that function to
the same check as a student's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch


class Wrong(Exception):
    """The answer is wrong; the message tells the student why, in a sentence."""


@dataclass(frozen=True)
class Exercise:
    """Call it with an answer: it prints one sentence.

    Args:
        name: of the function to write.
        right: the correct function, as a closed form.
        cases: arguments to call it with.
        mistakes: typical mistakes, each as the function it gives and the sentence to answer it with.
        tolerance: of each number, absolute and relative; float32 answers to small cases agree to 1e-5.
    """

    name: str
    right: Callable
    cases: Sequence[tuple]
    mistakes: Sequence[tuple[Callable, str]]
    tolerance: float = 1e-5

    def __call__(self, answer: Callable) -> None:
        try:
            self.examine(answer)
        except Wrong as wrong:
            print(f"Not yet: {wrong}")
        else:
            print(f"Right: {self.name} passes all {len(self.cases)} cases.")

    def examine(self, answer: Callable) -> None:
        """Raises Wrong unless the answer is right in every case."""
        if not callable(answer):
            raise Wrong(f"give the function itself, check.{self.name}(my_{self.name}), not {type(answer).__name__}.")
        results = [self._result(answer, case) for case in self.cases]
        wanted = [self.right(*_copies(case)) for case in self.cases]
        if all(map(self._close, results, wanted)):
            return
        for mistaken, sentence in self.mistakes:
            if all(map(self._close, results, [mistaken(*_copies(case)) for case in self.cases])):
                raise Wrong(sentence)
        for case, result, right in zip(self.cases, results, wanted):
            self._explain(case, result, right)

    def _result(self, answer: Callable, case: tuple) -> Any:
        given = _copies(case)
        try:
            result = answer(*given)
        except Exception as error:  # whatever a student's function raises
            first = str(error).split("\n")[0]  # PyTorch goes on with signatures
            raise Wrong(f"{self.name}({_shown(case)}) raises {type(error).__name__}: {first}") from error
        if result is None or result is ...:
            raise Wrong(f"{self.name}({_shown(case)}) returns nothing: does it end with `return`?")
        if any(isinstance(x, torch.Tensor) and not torch.equal(x, was) for x, was in zip(given, case)):
            raise Wrong(
                f"{self.name}({_shown(case)}) writes into its argument, which is needed again: take a `.clone()`."
            )
        return result

    def _close(self, result: Any, right: Any) -> bool:
        if isinstance(right, (tuple, list)):
            same = isinstance(result, (tuple, list)) and len(result) == len(right)
            return same and all(map(self._close, result, right))
        if isinstance(right, (str, bool)):
            return type(result) is type(right) and result == right
        if _is_mask(result) and not _is_mask(right):  # 1 - mask raises
            return False
        try:
            found, wanted = (torch.as_tensor(x, dtype=torch.float64) for x in (result, right))
        except (TypeError, ValueError, RuntimeError):
            return False
        return found.shape == wanted.shape and torch.allclose(found, wanted, self.tolerance, self.tolerance)

    def _explain(self, case: tuple, result: Any, right: Any) -> None:
        """Raises Wrong for a case that is wrong in none of the known ways."""
        if self._close(result, right):
            return
        call = f"{self.name}({_shown(case)})"
        shapes = [tuple(x.shape) for x in (result, right) if isinstance(x, torch.Tensor)]
        if len(shapes) == 2 and shapes[0] != shapes[1]:
            raise Wrong(f"{call} has shape {shapes[0]}, and should have {shapes[1]}.")
        if isinstance(result, torch.Tensor) and not result.isfinite().all():
            raise Wrong(f"{call} is not finite: is something divided by zero, or the logarithm of zero taken?")
        if _is_mask(result):
            raise Wrong(f"{call} has True and False, and should have the numbers 1 and 0: add `.float()`.")
        raise Wrong(f"{call} should be {_short(right)}, and is {_short(result)}.")


def _is_mask(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype == torch.bool


def _copies(case: tuple) -> tuple:
    """The arguments, so that a function that writes into them does no harm."""
    return tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in case)


def _shown(case: tuple) -> str:
    return ", ".join(map(_short, case))


def _short(x: Any) -> str:
    """A value, as short as a sentence needs."""
    if isinstance(x, torch.Tensor) and x.numel() > 6:
        numbers = ", ".join(f"{value:.4g}" for value in x.flatten()[:4].tolist())
        return f"a tensor {tuple(x.shape)} that begins {numbers}"
    if isinstance(x, torch.Tensor):
        return str(_rounded(x.tolist()))
    if isinstance(x, (tuple, list)) and any(isinstance(one, torch.Tensor) for one in x):
        return f"({', '.join(chain(map(_short, x)))})"
    return str(_rounded(x)) if isinstance(x, (float, list)) else repr(x)


def _rounded(x: Any) -> Any:
    if isinstance(x, list):
        return [_rounded(one) for one in x]
    return float(f"{x:.4g}") if isinstance(x, float) else x
