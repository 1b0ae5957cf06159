"""Files written as a whole, and never with a secret in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..domain.errors import StoreError


def write_text(path: Path, text: str) -> None:
    """Write a text file complete or not at all.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file complete or not at all.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path.name}: {error.strerror or error}",
            advice="free some space or choose another folder with --output; what was written before is kept",
        ) from error


def redacted(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every secret replaced."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
