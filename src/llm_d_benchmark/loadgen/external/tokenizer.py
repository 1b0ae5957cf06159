"""A tokenizer that works without a network and without a model, for tools that insist on one.

Tools make prompts of so many tokens by cutting text to so many ids and turning these back into text, or by drawing
ids. Ours has only common words, each with its space one token here and in nearly every model's tokenizer, and puts one
of them in place of every word it does not know: so what a tool takes for n tokens is about n tokens to the server too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ...domain.errors import ConfigError
from ...workload.words import words
from .environments import cache_dir

UNKNOWN = " the"
_PIECES = r" ?\w+| ?[^\w\s]|\s"
_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 1_000_000_000,
    "clean_up_tokenization_spaces": False,
}


def tokenizer_folder(given: Path | None) -> Path:
    """A folder with tokenizer.json and tokenizer_config.json: that of the target where it is given, else ours.

    Raises:
        ConfigError: ``given`` is no tokenizer.
    """
    if given is None:
        return _kept("words", json.dumps(word_tokenizer()).encode())
    folder = given if given.is_dir() else given.parent
    source = given if given.is_file() else folder / "tokenizer.json"
    if not source.exists():
        raise ConfigError(f"{given} holds no tokenizer.json", advice="give the model's folder, or its tokenizer.json")
    if source.name == "tokenizer.json" and (folder / "tokenizer_config.json").exists():
        return folder
    return _kept("given", source.read_bytes())


def word_tokenizer() -> dict[str, Any]:
    """Ours, in the form of the ``tokenizers`` library."""
    spaced = (f" {word}" for plain in words() for word in (plain, plain.capitalize()))
    pieces = [UNKNOWN, *spaced, *".,;:!?", "\n"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    split = {"type": "Split", "pattern": {"Regex": _PIECES}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": split,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN},
    }


def _kept(kind: str, tokenizer: bytes) -> Path:
    """The cache's folder of a tokenizer; both files are there or none, also where several runs make it at once."""
    folder = cache_dir() / "tokenizers" / f"{kind}-{hashlib.sha256(tokenizer).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent))
    (draft / "tokenizer_config.json").write_text(json.dumps(_CONFIG))
    (draft / "tokenizer.json").write_bytes(tokenizer)
    draft.chmod(0o755)
    try:
        os.rename(draft, folder)  # noqa: PTH104 - fails where another run was first, and that one's is as good
    except OSError:
        shutil.rmtree(draft)
    return folder
