"""Folders of the small public models."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.public_files import write_json, write_tokenizer
from tests.support.public_json import MODEL
from tests.support.public_models import public


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes a folder without weights, one of its files changed or replaced; a value of ... takes the key out."""

    def folder(kind: str, file: str = MODEL, /, change: dict | bytes = b"") -> Path:
        write_json(public(kind), tmp_path)
        write_tokenizer(public(kind), tmp_path / "tokenizer")
        if isinstance(change, dict):
            content = {key: value for key, value in (public(kind).files[file] | change).items() if value is not ...}
            (tmp_path / file).write_text(json.dumps(content))
        elif change:
            (tmp_path / file).write_bytes(change)
        return tmp_path

    return folder
