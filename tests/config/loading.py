"""Helpers of the configuration tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_d_benchmark.config.layers import LoadedConfig, load_config
from llm_d_benchmark.loadgen.registry import own_file

LOAD = "spec.benchmark.load_generators.0.config"


def load_text(tmp_path: Path, *texts: str, **options: Any) -> LoadedConfig:
    """Load files a.yaml, b.yaml, ... with these texts; no environment unless given."""
    files = []
    for name, text in zip("abcdef", texts, strict=False):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(text)
    return load_config(files, **{"env": {}, "own_file": own_file, **options})
