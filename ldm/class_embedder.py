"""The prompt model tau_theta [C9] where y is a class: a table, in the place of the text encoder.

Rombach et al. 2022 (arXiv 2112.10752), class-conditional synthesis: a class becomes a context of one token. A class may
have several tokens here, for a UNet that was trained on longer contexts. The last row, or rows, are those of no class,
for guidance [D18]. The parameter's name is that of the public file.
"""

import difflib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.config import ClassConfig
from ldm.text_encoder import table
from ldm.tokenizer import Tokens

SHOWN = 40  # classes that an error lists; of more, the first and the last


class ClassEmbedder(nn.Module):
    """[C9] The ids of a class to tau_theta(y), its rows of the table."""

    def __init__(self, config: ClassConfig):
        super().__init__()
        self.config = config
        self.embedding = table((config.classes + 1) * config.length, config.width)

    def forward(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b m e"]:
        return self.embedding(ids)


class ClassTokenizer:
    """Maps a class, by its name or number, to the ids of its tokens; the empty prompt to those of no class.

    Args:
        names: of the classes, in the order of the table.
        config: of the table.

    Raises:
        ValueError: not exactly one name for each class, each another.
    """

    def __init__(self, names: Sequence[str], config: ClassConfig):
        if len(names) != config.classes:
            raise ValueError(f"there are {len(names)} names of classes, the table has {config.classes} classes")
        self.names, self.config = tuple(names), config
        self._numbers = {name.lower(): number for number, name in enumerate([*names, ""])}
        if len(self._numbers) <= config.classes:
            raise ValueError("two classes have one name, or one class has none")

    def encode(self, prompt: str) -> Tokens:
        """The tokens of a class; its name is their text.

        Raises:
            ValueError: there is no such class.
        """
        name, length = prompt.strip().lower(), self.config.length
        number = self._numbers.get(name, int(name) if name.isdecimal() else -1)
        if not 0 <= number < self.config.classes + (not name):
            raise ValueError(self._unknown(prompt, name))
        inner = range(1, length - 1)  # as in a prompt, the first and the last token belong to no word
        span = lambda i: (0, len(prompt)) if i in inner else (0, 0)
        pieces = [{0: "BOS", length - 1: "EOS"}.get(i, prompt) if length > 1 else prompt for i in range(length)]
        ids = range(number * length, (number + 1) * length)
        return Tokens(prompt, tuple(ids), tuple(pieces), tuple(map(span, range(length))), count=length)

    def batch(self, prompts: list[str]) -> Int[Tensor, "b m"]:
        """The ids of several classes."""
        return torch.tensor([self.encode(prompt).ids for prompt in prompts])

    def _unknown(self, prompt: str, name: str) -> str:
        near = difflib.get_close_matches(name, self._numbers, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        few = len(self.names) <= SHOWN
        listed = ", ".join(self.names) if few else f"{self.names[0]!r}, ..., {self.names[-1]!r}"
        return f"no class {prompt!r}.{hint} Give one of {listed}, or its number, 0 to {self.config.classes - 1}"
