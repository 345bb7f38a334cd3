"""Loads a tokenizer and its added tokens from the public files, by the rules of transformers.

A learned concept is a token such as <cat-toy>, which its folder lists in one of three places: `added_tokens_decoder` of
tokenizer_config.json, added_tokens.json, or tokenizer.json. It has its own embedding: split into pieces, it would mean
something else.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from ldm.class_embedder import ClassTokenizer
from ldm.config import BertConfig, ClassConfig, TextConfig
from ldm.helpers.vocabulary import Vocabulary
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from ldm.zoo.wordpiece import BertTokenizer
from weights.checkpoints import fetched, files_of
from weights.files.json_settings import named, settings, shown

IMAGENET = Path(__file__).parents[1] / "imagenet.txt"  # the names of its 1,000 classes, in order, in ASCII

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")  # for one token the last one counts
FIXED = {"padding_side": "right", "split_special_tokens": False}
FIXED_IN_BERT = FIXED | {"do_lower_case": True, "strip_accents": True, "tokenize_chinese_chars": True}


class Files:
    """The JSON files of a tokenizer's folder; only those `among` the given ones, if any."""

    def __init__(self, folder: Path, among: Collection[Path] | None = None):
        self.folder, self.among = folder, among
        self.settings = self.read("tokenizer_config.json")
        if "added_tokens_decoder" not in self.settings:  # else special_tokens_map.json has precedence
            self.settings |= self.read("special_tokens_map.json")
        self.named = [self.settings[key] for key in NAMED if content(self.settings.get(key))]

    def __contains__(self, name: str) -> bool:
        return (self.among is None or self.folder / name in self.among) and (self.folder / name).is_file()

    def read(self, name: str, kind: Any = dict[str, Any]) -> dict[str, Any]:
        """An object, of a certain type and without nulls; empty if there is no such file."""
        if name not in self:
            return {}
        with settings(self.folder / name, kind) as found:
            return {key: value for key, value in found.items() if value is not None}

    def added(self) -> dict[int, AddedToken]:
        """The added tokens by id, possibly including special ones, with their matching rules."""
        with named(self.folder / "tokenizer_config.json"):
            if "added_tokens_decoder" in self.settings:
                return {int(id): token(fields) for id, fields in self.settings["added_tokens_decoder"].items()}
            special = {*map(content, [*self.named, *self.settings.get("extra_special_tokens", ())])}
        listed = self.read("added_tokens.json", dict[str, int]).items()
        return {id: AddedToken(text, special=text in special, normalized=text not in special) for text, id in listed}

    def special(self) -> list[AddedToken]:
        """The special tokens, with their matching rules: literally, or ignoring case."""
        fields = [its if isinstance(its, dict) else {"content": its, "normalized": False} for its in self.named]
        with named(self.folder / "special_tokens_map.json"):
            return [token(its | {"special": True}) for its in fields]

    def refuse_others(self, config: TextConfig | BertConfig) -> None:
        """Raises ValueError for a setting that changes the tokens of a prompt and is not supported here."""
        bert = isinstance(config, BertConfig)
        fixed = FIXED_IN_BERT if bert else FIXED | {"bos_token": config.bos, "eos_token": config.eos}
        for key, value in fixed.items():
            said = self.settings.get(key, value)
            if value != (content(said) if key.endswith("_token") else said):
                raise ValueError(f"{self.folder}: {key!r} is {shown(said)}, which no tokenizer here has")
        length = self.settings.get("model_max_length")
        if not bert and isinstance(length, int) and length < config.length:  # larger values mean "unlimited"
            raise ValueError(f"{self.folder}: 'model_max_length' is {length}; the text encoder's is {config.length}")


def token(fields: dict[str, Any]) -> AddedToken:
    """A token in transformers' format."""
    return AddedToken(fields["content"], **{key: fields[key] for key in FLAGS if fields.get(key) is not None})


def content(token: object) -> str | None:
    """A token's text, given alone or among the token's settings."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def tokenizer(
    path: Path, config: TextConfig | BertConfig | ClassConfig | None, among: Collection[Path] | None = None
) -> PromptTokenizer | ClassTokenizer | None:
    """Load the tokenizer of a model: from its folder, or the `tokenizer` folder in it; from the hub for a CompVis file
    with neither; where y is a class, from the nouns of a model of ours, or ImageNet's list of names.

    Args:
        path: of the model's folder or file.
        config: of its text encoder, if it has one.
        among: the only files that may be read, if any are given.

    Raises:
        ValueError: files are missing or damaged, do not fit the config, or require unsupported features.
    """
    if config is None:
        return None
    bert, home = isinstance(config, BertConfig), path if path.is_dir() else path.parent
    if isinstance(config, ClassConfig):
        if path == home:  # a model of ours
            return ClassTokenizer(Vocabulary.from_json((home / "words.json").read_bytes()).kinds["nouns"], config)
        return ClassTokenizer(IMAGENET.read_text().splitlines(), config)
    names = ["vocab.txt"] if bert else ["vocab.json", "merges.txt"]
    places = Files(home, among), Files(home / "tokenizer", among)
    files = next((place for place in places if names[0] in place or "tokenizer.json" in place), None)
    if files is None and path != home:
        name = "bert-tokenizer" if bert else "clip-tokenizer"
        folder = fetched(name)
        files = Files(folder / "tokenizer" if bert else folder, files_of(name, folder))
    files = files or places[-1]
    files.refuse_others(config)
    if not bert and "tokenizer.json" in files:  # has precedence over the other files
        return CLIPTokenizer.from_file(files.folder / "tokenizer.json", config)
    if missing := [name for name in names if name not in files]:
        raise ValueError(f"the model's tokenizer in {files.folder} lacks {', '.join(missing)}")
    if bert:
        return BertTokenizer.from_vocabulary_file(files.folder / "vocab.txt", config)
    paths = (files.folder / name for name in names)
    return CLIPTokenizer.from_files(*paths, config, files.added(), files.special())
