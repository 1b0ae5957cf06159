"""Counting with a local tokenizer ([tokenizers] extra)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ..domain.errors import ConfigError


def token_counter(path: str) -> Callable[[str], int]:
    """Tokens of a text without special tokens, by the tokenizer.json at ``path`` (the file or its folder).

    Raises:
        ConfigError: the [tokenizers] extra is missing, or there is no sound tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ConfigError(
            f"the tokenizer {path} needs the [tokenizers] extra", advice="pip install 'llm-d-benchmark[tokenizers]'"
        ) from None
    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ConfigError(f"no tokenizer.json at {path}")
    _check_tokenizer(file)
    tokenizer = Tokenizer.from_file(str(file))

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


def _check_tokenizer(file: Path) -> None:
    """The library raises a bare Exception for a damaged file, so what can be damaged is looked at first."""
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file} is no tokenizer: {error}") from error
    if not isinstance(whole, dict) or not isinstance(whole.get("model"), dict):
        raise ConfigError(f"{file} is no tokenizer: it has no model")
