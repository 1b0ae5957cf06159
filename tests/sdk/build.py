"""Builds the kits' examples outside the tree; where the toolchain is missing, the tests are skipped and say so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SDK = Path(__file__).parents[2] / "sdk"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "llm-d-benchmark" / "sdk-tests"

TARGET = CACHE / "rust"


def toolchain(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} on this machine")
    return found


def tool(*command: str, cwd: Path, **env: str) -> None:
    """Run a compiler or a test runner; its output is the failure's message."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout


def built_go(folder: Path) -> str:
    """The Go kit's example, built into a folder."""
    program = folder / "openai"
    tool(toolchain("go"), "build", "-trimpath", "-o", str(program), "./examples/openai", cwd=SDK / "go")
    return str(program)


def cargo(*command: str) -> None:
    """cargo on the Rust kit, with its target folder outside the tree."""
    tool(toolchain("cargo"), *command, "--release", "--locked", cwd=SDK / "rust", CARGO_TARGET_DIR=str(TARGET))


def built_rust() -> str:
    """The Rust kit's example."""
    cargo("build", "--quiet", "--example", "openai")
    return str(TARGET / "release" / "examples" / "openai")
