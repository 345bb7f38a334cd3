"""Loads a tokenizer and its added tokens from the public files, by the rules of transformers.

A learned concept is a token such as <cat-toy>, which its folder lists in one of three places: `added_tokens_decoder` of
tokenizer_config.json, added_tokens.json, or tokenizer.json. It has its own embedding: split into pieces, it would mean
something else.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pydantic
from tokenizers import AddedToken

from ldm.class_embedder import ClassTokenizer
from ldm.config import BertConfig, ClassConfig, TextConfig
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from ldm.zoo.wordpiece import BertTokenizer
from weights.checkpoints import fetched, files_of
from weights.files.json_settings import Settings, shown

IMAGENET = Path(__file__).parents[1] / "imagenet.txt"  # the names of its 1,000 classes, in order
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")  # for one token the last one counts
FIXED = {"padding_side": "right", "split_special_tokens": False}
FIXED_IN_BERT = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, **FIXED}


@dataclass(frozen=True)
class Added:
    """A token in transformers' format; None for absent fields."""

    content: str
    id: int | None = None
    single_word: bool | None = None
    lstrip: bool | None = None
    rstrip: bool | None = None
    normalized: bool | None = None
    special: bool | None = None

    def token(self) -> AddedToken:
        return AddedToken(**{key: value for key, value in asdict(self).items() if key != "id" and value is not None})


@dataclass(frozen=True)
class Model:
    """The part of tokenizer.json that defines CLIP's tokenizer in transformers."""

    vocab: dict[str, int]
    merges: list[tuple[str, str] | str]


class Files:
    """The JSON files of a tokenizer's folder; only those `among` the given ones, if any."""

    def __init__(self, folder: Path, among: Collection[Path] | None = None):
        self.folder, self.among = folder, among

    def __contains__(self, name: str) -> bool:
        return (self.among is None or self.folder / name in self.among) and (self.folder / name).is_file()

    def values(self, name: str) -> dict:
        return Settings(self.folder / name).values if name in self else {}

    def parsed(self, name: str, kind: Any, value: object) -> Any:
        """Validate a part of a file against a type. Raises ValueError if it has another."""
        try:
            return pydantic.TypeAdapter(kind).validate_python(value)
        except pydantic.ValidationError as e:
            raise ValueError(f"{self.folder / name} is not a tokenizer's: {e.errors()[0]['msg']}") from None

    def settings(self) -> dict:
        """The settings; special_tokens_map.json has precedence, unless tokenizer_config.json lists the added tokens."""
        values = self.values("tokenizer_config.json")
        if "added_tokens_decoder" in values:
            return values
        return values | {k: v for k, v in self.values("special_tokens_map.json").items() if v is not None}

    def added(self) -> dict[int, AddedToken]:
        """The added tokens by id, possibly including special ones, with their matching rules."""
        settings = self.settings()
        if "added_tokens_decoder" in settings:
            found = self.parsed("tokenizer_config.json", dict[int, Added], settings["added_tokens_decoder"])
        else:
            extra = settings.get("extra_special_tokens") or ()
            special = {_content(token) for token in (*map(settings.get, NAMED), *extra)}
            listed = self.parsed("added_tokens.json", dict[str, int], self.values("added_tokens.json"))
            found = {
                id: Added(text, special=text in special, normalized=text not in special) for text, id in listed.items()
            }
            tokens = self.values("tokenizer.json").get("added_tokens") or []
            parsed = self.parsed("tokenizer.json", list[Added], tokens)
            found |= {-1 if token.id is None else token.id: token for token in parsed}  # -1 is refused
        return {id: token.token() for id, token in found.items()}

    def named(self) -> list[AddedToken]:
        """The special tokens, with their matching rules: literally, or ignoring case."""
        tokens = [token for token in map(self.settings().get, NAMED) if _content(token)]
        plain = lambda token: AddedToken(token, special=True, normalized=False)
        full = lambda token: self.parsed("special_tokens_map.json", Added, token | {"special": True}).token()
        return [full(token) if isinstance(token, dict) else plain(token) for token in tokens]


def _content(token: object) -> str | None:
    """A token's text, given alone or among the token's settings."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def pad_token(folder: Path, default: str) -> str:
    """The padding token. Stable Diffusion 2's two files differ in it."""
    return _content(Files(folder).settings().get("pad_token")) or default


def tokenizer(folder: Path, config: TextConfig | BertConfig, among: Collection[Path] | None = None) -> PromptTokenizer:
    """Load a tokenizer from its public files; only those `among` the given ones, if any.

    Raises:
        ValueError: they are missing or damaged, do not fit the config, or require unsupported features.
    """
    files = Files(folder, among)
    refuse_settings(files, config)
    wanted = ("vocab.txt",) if isinstance(config, BertConfig) else ("vocab.json", "merges.txt")
    missing = [name for name in wanted if name not in files]
    if isinstance(config, TextConfig) and "tokenizer.json" in files:  # has precedence over the other files
        model = files.parsed("tokenizer.json", Model, files.values("tokenizer.json").get("model"))
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in model.merges]
        if wrong := [merge for merge in merges if len(merge) != 2]:
            raise ValueError(f"{folder / 'tokenizer.json'}: the merge {shown(wrong[0])} is not of two pieces")
        return CLIPTokenizer.from_vocabulary(model.vocab, merges, config, files.added(), files.named())
    if missing:
        raise ValueError(f"the model's tokenizer in {folder} lacks {', '.join(missing)}")
    if isinstance(config, BertConfig):
        return BertTokenizer.from_vocabulary_file(folder / "vocab.txt", config)
    return CLIPTokenizer.from_files(folder / "vocab.json", folder / "merges.txt", config, files.added(), files.named())


def refuse_settings(files: Files, config: TextConfig | BertConfig) -> None:
    """Raises ValueError for a setting that changes the tokens of a prompt and is not supported here."""
    bert, settings = isinstance(config, BertConfig), files.settings()
    names = {} if bert else {"bos_token": config.bos, "eos_token": config.eos}
    for key, value in {**(FIXED_IN_BERT if bert else FIXED), **names}.items():
        said = settings.get(key)
        if said is not None and (_content(said) if key in names else said) != value:
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
