"""Tokenizers: map a prompt to a fixed number of ids, and each token to its characters.

A prompt becomes BOS, its tokens, EOS and padding, `length` in all. Each token keeps its span of characters in the
prompt, from which Prompt-to-Prompt finds the columns of a word. This file has the common base class and CLIP's
tokenizer, lower-cased byte-pair encoding; BERT's is in `ldm/zoo/wordpiece.py`. Built on the `tokenizers` library.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from types import MappingProxyType

import pydantic
import torch
from jaxtyping import Int
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from torch import Tensor

from ldm.config import BertConfig, TextConfig

WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Tokens:
    """One tokenized prompt of fixed length."""

    prompt: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]  # as readable text; special tokens by name
    spans: tuple[tuple[int, int], ...]  # characters [start, end) of the prompt; (0, 0) for BOS, EOS and padding
    count: int  # tokens before the padding: BOS, words, EOS


class PromptTokenizer:
    """Maps prompts to ids, and tokens to their characters."""

    def __init__(self, backend: Tokenizer, config: TextConfig | BertConfig):
        self._backend, self.config = backend, config
        self.bos, self.eos, self.pad = (self._id(token) for token in (config.bos, config.eos, config.pad))
        if (entries := backend.get_vocab_size()) != config.vocabulary:
            raise ValueError(
                f"the tokenizer's vocabulary has {entries} entries, the text encoder {config.vocabulary} embeddings: "
                "both must come from one model, with the files of the tokens added to it (added_tokens.json)"
            )
        # a learned token of several vectors is written as one, <it>, and is followed by the tokens <it>_1, <it>_2 ...
        self._further = {
            id: tuple(takewhile(bool, (backend.token_to_id(f"{token.content}_{i}") for i in count(1))))
            for id, token in backend.get_added_tokens_decoder().items()
        }

    @classmethod
    def from_file(cls, path: Path, config: TextConfig | BertConfig):
        """Load a `tokenizer.json`.

        Raises:
            ValueError: the file is not a tokenizer, or does not fit the config.
        """
        try:
            backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as e:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer.json: {e}") from e
        # a file may enable truncation and padding; here long prompts are refused, and `encode` pads
        backend.no_truncation()
        backend.no_padding()
        tokenizer = cls(backend, config)
        if (last := max(backend.get_vocab().values())) >= config.vocabulary:
            raise ValueError(f"{path} has an entry of the id {last}, the config has {config.vocabulary} ids from 0")
        if (around := backend.encode("").ids) != [tokenizer.bos, tokenizer.eos]:
            raise ValueError(
                f"{path} puts the tokens {around[:8]} around a prompt, "
                f"not BOS and EOS: {tokenizer.bos}, {tokenizer.eos}"
            )
        return tokenizer

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
            ValueError: the prompt has more tokens than the context holds; nothing is truncated silently.
        """
        try:
            ids, spans = self._ids_and_spans(prompt)
        except TypeError as e:  # the library's error for a lone surrogate, an undecodable byte of a command line
            raise ValueError(f"the prompt is not text: {prompt!a}") from e
        room = self.config.length
        if len(ids) > room:
            end = spans[room - 2][1]  # of the last token that fits beside BOS and EOS
            cuts = [m.start() for m in re.finditer(r"\s+|$", prompt) if m.start() <= end]
            fits = (prompt[:cut] for cut in reversed(cuts) if len(self._ids_and_spans(prompt[:cut])[0]) <= room)
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

    def _ids_and_spans(self, prompt: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._backend.encode(prompt)
        tokens = [
            (each, span)
            for id, span in zip(encoding.ids, encoding.offsets)
            for each in (id, *self._further.get(id, ()))
        ]
        return [id for id, _ in tokens], [span for _, span in tokens]

    def batch(self, prompts: list[str]) -> Int[Tensor, "b m"]:
        """The ids of several prompts, for the text encoder."""
        return torch.tensor([self.encode(prompt).ids for prompt in prompts])


class CLIPTokenizer(PromptTokenizer):
    """Lower-cased byte-pair encoding: words are spelled in bytes, which merges then join into longer pieces."""

    @classmethod
    def from_vocabulary(
        cls,
        vocab: dict[str, int],
        merges: list[tuple[str, str]],
        config: TextConfig,
        added: Mapping[int, AddedToken] = MappingProxyType({}),
        named: Sequence[AddedToken] = (),
    ):
        """Build the tokenizer from the contents of `vocab.json` and `merges.txt`.

        Args:
            vocab, merges: the entries with their ids, and the pairs of entries to merge.
            config: of the text encoder.
            added: further tokens, by id, which are matched before the prompt is split into words.
            named: how special tokens are matched, if not by their text alone.

        Raises:
            ValueError: they do not belong together, or are not of CLIP's kind: ids from 0 to n - 1, for the 256 bytes,
                the 256 word-final bytes, the merged entries, and the special tokens.
        """
        contents = {token.content for token in added.values()}
        made = {*_byte_entries(), *map("".join, merges), config.bos, config.eos, config.pad, *contents}
        missing = sorted((made | {part for merge in merges for part in merge}) - vocab.keys() - contents)
        unmade = sorted(vocab.keys() - made)
        if missing or unmade:
            raise ValueError(
                f"the tokenizer's vocabulary and merges are not of one model, or not whole: the vocabulary lacks "
                f"{len(missing)} entries {missing[:3]}, and no merge makes {len(unmade)} of its own {unmade[:3]}"
            )
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise ValueError(f"the ids of the tokenizer's vocabulary are not 0 to {len(vocab) - 1}, each once")
        model = BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=config.eos)
        backend = Tokenizer(model)
        _clip_rules(backend)
        backend.add_tokens([added[id] for id in sorted(added)])
        for id, token in added.items():
            if (given := backend.token_to_id(token.content)) != id:
                raise ValueError(f"the added token {token.content[:80]!r} has the id {id}; the next one is {given}")
        special = [(token, backend.token_to_id(token)) for token in (config.eos, config.bos)]
        backend.post_processor = processors.RobertaProcessing(*special, trim_offsets=False, add_prefix_space=False)
        # in a prompt each stands for itself: for Stable Diffusion 2, which pads with "!", "!!!" is three tokens
        backend.add_special_tokens([token for token in (config.bos, config.eos, config.pad) if token not in contents])
        known = {config.bos, config.eos, config.pad} - contents
        backend.add_special_tokens([token for token in named if token.content in known])
        return cls(backend, config)

    @classmethod
    def from_files(
        cls,
        vocab: Path,
        merges: Path,
        config: TextConfig,
        added: Mapping[int, AddedToken] = MappingProxyType({}),
        named: Sequence[AddedToken] = (),
    ):
        """Load the public `vocab.json` and `merges.txt`; `added` and `named` as for `from_vocabulary`.

        Raises:
            ValueError: a file cannot be read or has another format, or they do not fit each other or the config.
        """
        try:
            entries = pydantic.TypeAdapter(dict[str, int]).validate_json(read_text(vocab), strict=True)
        except pydantic.ValidationError as e:
            raise ValueError(f"{vocab} is not a JSON object of entries and their ids: {e.errors()[0]['msg']}") from None
        header, *lines = read_text(merges).removesuffix("\n").split("\n")
        if not header.startswith("#version"):
            raise ValueError(f"{merges} does not begin with #version, as a list of merges does")
        pairs = [tuple(line.split(" ")) for line in lines]
        for number, pair in enumerate(pairs, start=2):
            if len(pair) != 2 or not all(pair):
                raise ValueError(f"{merges}, line {number}: {' '.join(pair)[:50]!r} is not two pieces and a space")
        return cls.from_vocabulary(entries, pairs, config, added, named)

    @classmethod
    def train(cls, captions: list[str], config: TextConfig, in_pieces: dict[str, int]):
        """Train on captions until nothing is left to merge; entries are in CLIP's order: the 256 bytes, the 256
        word-final bytes, the merges, BOS, EOS.

        Args:
            captions: the training text.
            config: its `vocabulary` must equal the resulting number of entries.
            in_pieces: words to keep in this many tokens instead of one, by dropping the merges that complete them.

        Raises:
            ValueError: another number of entries, or a word of `in_pieces` that cannot have that many pieces.
        """
        base = _byte_entries()
        backend = Tokenizer(BPE(end_of_word_suffix="</w>"))
        _clip_rules(backend)
        # ties between merges are broken by the letters' ids, which for word-final letters would follow a hash table
        numbered = [*base[:256], *reversed(base[256:])]
        trainer = trainers.BpeTrainer(special_tokens=numbered, end_of_word_suffix="</w>", show_progress=False)
        backend.train_from_iterator(captions, trainer)
        merges = [tuple(m) for m in json.loads(backend.to_str())["model"]["merges"]]
        for word, number in in_pieces.items():
            pieces = [word + "</w>"]
            while len(pieces) < number:  # undo the merge that was learned last
                makers = [m for m in merges if "".join(m) in pieces]
                if not makers:
                    raise ValueError(
                        f"the word {word!r} cannot be left in {number} tokens: "
                        f"no merge learned from the captions makes {' or '.join(map(repr, pieces))}"
                    )
                last = max(makers, key=merges.index)
                merges.remove(last)
                at = pieces.index("".join(last))
                pieces[at : at + 1] = last
        entries = base + ["".join(m) for m in merges] + [config.bos, config.eos]
        if len(entries) != config.vocabulary:
            raise ValueError(f"the captions give {len(entries)} entries, the config has {config.vocabulary}")
        return cls.from_vocabulary({entry: i for i, entry in enumerate(entries)}, merges, config)


def _clip_rules(backend: Tokenizer) -> None:
    """Set normalisation, splitting into words and the byte alphabet."""
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


def _byte_entries() -> list[str]:
    """The 256 characters that stand for bytes, and the same as word-final."""
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return characters + [c + "</w>" for c in characters]


def read_text(path: Path) -> str:
    """Read a vocabulary file.

    Raises:
        ValueError: the file does not exist, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ValueError(f"{path} cannot be read as text: {e}") from e
