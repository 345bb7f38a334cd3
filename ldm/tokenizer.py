"""CLIP's tokenizer: lower-cased byte-pair encoding, built on the `tokenizers` library.

A prompt becomes BOS, its tokens, EOS and padding, always `length` in all. Every token knows which characters of the
prompt it came from, which is how Prompt-to-Prompt finds the columns of a word.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from torch import Tensor

from ldm.config import TextConfig

WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Tokens:
    """One tokenized prompt of fixed length."""

    prompt: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]  # as readable text; special tokens by their names
    spans: tuple[tuple[int, int], ...]  # characters [start, end) of the prompt; (0, 0) for BOS, EOS and padding
    count: int  # tokens before the padding: BOS, words, EOS


class CLIPTokenizer:
    """Prompts to ids and back to characters."""

    def __init__(self, backend: Tokenizer, config: TextConfig):
        self._backend, self.config = backend, config
        if backend.get_vocab_size() > config.vocabulary:
            raise ValueError(
                f"the tokenizer's vocabulary has {backend.get_vocab_size()} entries, the config's {config.vocabulary}"
            )
        self.bos, self.eos, self.pad = (self._id(token) for token in (config.bos, config.eos, config.pad))

    @classmethod
    def from_vocabulary(cls, vocab: dict[str, int], merges: list[tuple[str, str]], config: TextConfig):
        """From the contents of `vocab.json` and `merges.txt`, the public form."""
        model = BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=config.eos)
        backend = Tokenizer(model)
        _clip_rules(backend)
        special = [(token, backend.token_to_id(token)) for token in (config.eos, config.bos)]
        backend.post_processor = processors.RobertaProcessing(*special, trim_offsets=False, add_prefix_space=False)
        backend.add_special_tokens([config.bos, config.eos])
        return cls(backend, config)

    @classmethod
    def from_file(cls, path: Path, config: TextConfig):
        """From a `tokenizer.json`.

        Raises:
            ValueError: the file is not a tokenizer, or not one that fits the config.
        """
        try:
            backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as e:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer.json: {e}") from e
        return cls(backend, config)

    @classmethod
    def train(cls, captions: list[str], config: TextConfig, in_pieces: dict[str, int]):
        """Learn all merges that the captions hold, in CLIP's order of entries: the 256 bytes, the 256 bytes that end a
        word, the merges, BOS, EOS.

        Args:
            captions: what to learn from.
            config: its `vocabulary` must come out as the number of entries.
            in_pieces: words to leave in so many tokens rather than one, by dropping the merges that complete them.
        """
        characters = sorted(pre_tokenizers.ByteLevel.alphabet())
        base = characters + [c + "</w>" for c in characters]
        backend = Tokenizer(BPE(end_of_word_suffix="</w>"))
        _clip_rules(backend)
        trainer = trainers.BpeTrainer(initial_alphabet=characters, end_of_word_suffix="</w>", show_progress=False)
        backend.train_from_iterator(captions, trainer)
        merges = [tuple(m) for m in json.loads(backend.to_str())["model"]["merges"]]
        for word, number in in_pieces.items():
            pieces = [word + "</w>"]
            while len(pieces) < number:  # undo the merge that was learned last
                last = max((m for m in merges if "".join(m) in pieces), key=merges.index)
                merges.remove(last)
                at = pieces.index("".join(last))
                pieces[at : at + 1] = last
        entries = base + ["".join(m) for m in merges] + [config.bos, config.eos]
        if len(entries) != config.vocabulary:
            raise ValueError(f"the captions give {len(entries)} entries, the config says {config.vocabulary}")
        return cls.from_vocabulary({entry: i for i, entry in enumerate(entries)}, merges, config)

    def save(self, path: Path) -> None:
        self._backend.save(str(path))

    def _id(self, token: str) -> int:
        id = self._backend.token_to_id(token)
        if id is None:
            raise ValueError(f"the tokenizer has no token {token!r}")
        return id

    def encode(self, prompt: str) -> Tokens:
        """Tokenize one prompt.

        Raises:
            ValueError: the prompt has more tokens than the context holds; nothing is cut silently.
        """
        try:
            encoding = self._backend.encode(prompt)
        except TypeError as e:  # what the library says of a lone surrogate, an undecodable byte of a command line
            raise ValueError(f"the prompt is not text: {prompt!a}") from e
        ids, spans = list(encoding.ids), list(encoding.offsets)
        room = self.config.length
        if len(ids) > room:
            cuts = [m.start() for m in re.finditer(r"\s+|$", prompt)]
            fits = (prompt[:cut] for cut in reversed(cuts) if len(self._backend.encode(prompt[:cut]).ids) <= room)
            raise ValueError(
                f"the prompt has {len(ids) - 2} tokens, the model's context holds {room - 2}: "
                f"shorten it to at most {next(fits, '')!r}"
            )
        padding = room - len(ids)
        names = {self.bos: "BOS", self.eos: "EOS"}
        pieces = [names.get(id, prompt[a:b]) for id, (a, b) in zip(ids, spans)] + ["PAD"] * padding
        spans = [(0, 0) if id in names else span for id, span in zip(ids, spans)]
        return Tokens(
            prompt, (*ids, *[self.pad] * padding), tuple(pieces), (*spans, *[(0, 0)] * padding), count=len(ids)
        )

    def batch(self, prompts: list[str]) -> Int[Tensor, "b m"]:
        """The ids of several prompts, for the text encoder."""
        return torch.tensor([self.encode(prompt).ids for prompt in prompts])


def _clip_rules(backend: Tokenizer) -> None:
    """Normalisation, splitting into words, byte alphabet."""
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
