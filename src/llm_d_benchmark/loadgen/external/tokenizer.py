"""A tokenizer that works without a network, for tools that insist on one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ...domain.errors import ConfigError, GeneratorError
from .api import Environment
from .environments import cache_dir

_CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1_000_000_000}

# Run in the tool's own environment, where the tokenizers library is: a byte-level BPE over English text that every
# Python has (the help topics), so that a common word is about one token, as in the tokenizers of real models.
_TRAIN = """
import sys
from pydoc_data.topics import topics
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
t = Tokenizer(models.BPE())
t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
t.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
special = ["<s>", "</s>"]
trainer = trainers.BpeTrainer(vocab_size=4096, initial_alphabet=alphabet, special_tokens=special, show_progress=False)
t.train_from_iterator([topics[k] for k in sorted(topics)], trainer)
t.save(sys.argv[1])
"""


def tokenizer_folder(given: Path | None, environment: Environment) -> Path:
    """A folder with tokenizer.json and tokenizer_config.json: that of the target where it is given, else a small
    general one, made once.

    Raises:
        ConfigError: ``given`` is no tokenizer.
        GeneratorError: the general one cannot be made.
    """
    if given is not None:
        return _of_target(given)
    folder = cache_dir() / "tokenizers" / "general-1"
    if not (folder / "tokenizer.json").exists():
        _make(folder, environment)
    return folder


def _of_target(given: Path) -> Path:
    folder = given if given.is_dir() else given.parent
    source = folder / "tokenizer.json"
    if not source.exists():
        raise ConfigError(f"{given} holds no tokenizer.json", advice="give the model's folder, or its tokenizer.json")
    if (folder / "tokenizer_config.json").exists():
        return folder
    data = source.read_bytes()
    made = cache_dir() / "tokenizers" / f"given-{hashlib.sha256(data).hexdigest()[:16]}"
    if not made.exists():
        _publish(made, data)
    return made


def _make(folder: Path, environment: Environment) -> None:
    with tempfile.TemporaryDirectory() as work:
        target = Path(work) / "tokenizer.json"
        done = subprocess.run(
            [environment.python, "-c", _TRAIN, str(target)], capture_output=True, text=True, check=False
        )
        if done.returncode or not target.exists():
            raise GeneratorError(
                f"no tokenizer could be made: {done.stderr.strip().splitlines()[-1:] or 'unknown reason'}",
                advice="give the model's own one: spec.target.existing.tokenizer: FOLDER",
            )
        _publish(folder, target.read_bytes())


def _publish(folder: Path, tokenizer: bytes) -> None:
    """Both files, so that another run never sees one of them alone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent))
    (draft / "tokenizer_config.json").write_text(json.dumps(_CONFIG))
    (draft / "tokenizer.json").write_bytes(tokenizer)
    draft.chmod(0o755)
    try:
        os.rename(draft, folder)  # noqa: PTH104 - fails where another run was first, and that one's is as good
    except OSError:
        shutil.rmtree(draft)
