"""Loads a tokenizer and its added tokens from the public files, by the rules of transformers.

A learned concept is a token such as <cat-toy>, which its folder lists in one of three places: `added_tokens_decoder` of
tokenizer_config.json, added_tokens.json, or tokenizer.json. It has its own embedding: split into pieces, it would mean
something else.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from tokenizers import AddedToken

from ldm.class_embedder import ClassTokenizer
from ldm.config import BertConfig, ClassConfig, TextConfig
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from ldm.zoo.wordpiece import BertTokenizer
from weights.checkpoints import fetched, files_of
from weights.files.json_settings import named, settings, shown

IMAGENET = Path(__file__).parents[1] / "imagenet.txt"  # the names of its 1,000 classes, in order

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")  # for one token the last one counts
FIXED = {"padding_side": "right", "split_special_tokens": False}
FIXED_IN_BERT = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, **FIXED}


@dataclass(frozen=True)
class Model:
    """The part of tokenizer.json that defines CLIP's tokenizer in transformers."""

    vocab: dict[str, int]
    merges: list[tuple[str, str] | str]


class Files:
    """The JSON files of a tokenizer's folder; only those `among` the given ones, if any."""

    def __init__(self, folder: Path, among: Collection[Path] | None = None):
        self.folder, self.among = folder, among
        self.settings = self.values("tokenizer_config.json")
        if "added_tokens_decoder" not in self.settings:  # else special_tokens_map.json has precedence
            special = self.values("special_tokens_map.json")
            self.settings |= {key: value for key, value in special.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return (self.among is None or self.folder / name in self.among) and (self.folder / name).is_file()

    def values(self, name: str) -> dict:
        if name not in self:
            return {}
        with settings(self.folder / name) as file:
            return dict(file)

    def parsed(self, name: str, kind: Any, value: object) -> Any:
        """Validate a part of a file against a type. Raises ValueError if it has another."""
        with named(self.folder / name):
            return pydantic.TypeAdapter(kind).validate_python(value)

    def added(self) -> dict[int, AddedToken]:
        """The added tokens by id, possibly including special ones, with their matching rules."""
        if "added_tokens_decoder" in self.settings:
            with named(self.folder / "tokenizer_config.json"):
                return {int(id): token(fields) for id, fields in dict(self.settings["added_tokens_decoder"]).items()}
        special = {content(self.settings.get(key)) for key in NAMED}
        special |= set(map(content, self.settings.get("extra_special_tokens") or ()))
        listed = self.parsed("added_tokens.json", dict[str, int], self.values("added_tokens.json"))
        found = {
            id: AddedToken(text, special=text in special, normalized=text not in special) for text, id in listed.items()
        }
        tokens = self.values("tokenizer.json").get("added_tokens") or []
        with named(self.folder / "tokenizer.json"):
            return found | {int(fields.get("id", -1)): token(fields) for fields in tokens}  # -1 is refused

    def special(self) -> list[AddedToken]:
        """The special tokens, with their matching rules: literally, or ignoring case."""
        given = [self.settings.get(key) for key in NAMED if content(self.settings.get(key))]
        fields = [its if isinstance(its, dict) else {"content": its, "normalized": False} for its in given]
        with named(self.folder / "special_tokens_map.json"):
            return [token(its | {"special": True}) for its in fields]


def token(fields: dict) -> AddedToken:
    """A token in transformers' format."""
    return AddedToken(fields["content"], **{key: fields[key] for key in FLAGS if fields.get(key) is not None})


def content(token: object) -> str | None:
    """A token's text, given alone or among the token's settings."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def pad_token(folder: Path) -> str | None:
    """The padding token, if the files name it. Stable Diffusion 2's two files differ in it."""
    return content(Files(folder).settings.get("pad_token"))


def tokenizer(folder: Path, config: TextConfig | BertConfig, among: Collection[Path] | None = None) -> PromptTokenizer:
    """Load a tokenizer from its public files; only those `among` the given ones, if any.

    Raises:
        ValueError: they are missing or damaged, do not fit the config, or require unsupported features.
    """
    files, bert = Files(folder, among), isinstance(config, BertConfig)
    refuse_settings(files, config)
    if not bert and "tokenizer.json" in files:  # has precedence over the other files
        model = files.parsed("tokenizer.json", Model, files.values("tokenizer.json").get("model"))
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in model.merges]
        if wrong := [merge for merge in merges if len(merge) != 2]:
            raise ValueError(f"{folder / 'tokenizer.json'}: the merge {shown(wrong[0])} is not of two pieces")
        return CLIPTokenizer.from_vocabulary(model.vocab, merges, config, files.added(), files.special())
    if missing := [name for name in (("vocab.txt",) if bert else ("vocab.json", "merges.txt")) if name not in files]:
        raise ValueError(f"the model's tokenizer in {folder} lacks {', '.join(missing)}")
    if bert:
        return BertTokenizer.from_vocabulary_file(folder / "vocab.txt", config)
    tokens = files.added(), files.special()
    return CLIPTokenizer.from_files(folder / "vocab.json", folder / "merges.txt", config, *tokens)


def refuse_settings(files: Files, config: TextConfig | BertConfig) -> None:
    """Raises ValueError for a setting that changes the tokens of a prompt and is not supported here."""
    bert, settings = isinstance(config, BertConfig), files.settings
    names = {} if bert else {"bos_token": config.bos, "eos_token": config.eos}
    for key, value in {**(FIXED_IN_BERT if bert else FIXED), **names}.items():
        said = content(settings.get(key)) if key in names else settings.get(key)
        if settings.get(key) is not None and said != value:
            raise ValueError(f"{files.folder}: {key!r} is {shown(said)}, which the tokenizer here does not have")
    length = settings.get("model_max_length")
    if not bert and isinstance(length, int) and length < config.length:  # larger values mean "unlimited"
        raise ValueError(
            f"{files.folder}: 'model_max_length' is {length}; the model here reads the text encoder's {config.length}"
        )


def tokenizer_beside(path: Path, config: TextConfig | BertConfig | ClassConfig) -> PromptTokenizer | ClassTokenizer:
    """Load the tokenizer for a CompVis file, which has none: from its folder, its `tokenizer` folder, or the hub; where
    y is a class, from ImageNet's list of names."""
    if isinstance(config, ClassConfig):
        return ClassTokenizer(IMAGENET.read_text(encoding="utf-8").splitlines(), config)
    bert = isinstance(config, BertConfig)
    for folder in (path.parent, path.parent / "tokenizer"):
        if any((folder / name).is_file() for name in (("vocab.txt",) if bert else ("vocab.json", "tokenizer.json"))):
            return tokenizer(folder, config)
    name = "bert-tokenizer" if bert else "clip-tokenizer"
    folder = fetched(name)
    return tokenizer(folder / "tokenizer" if bert else folder, config, files_of(name, folder))
