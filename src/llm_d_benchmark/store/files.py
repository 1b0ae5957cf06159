"""Files written as a whole, and never with a secret in them."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..domain.errors import StoreError
from ..domain.redaction import redacted


def write_text(path: Path, text: str) -> None:
    """Write a text file complete or not at all.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_text_anywhere(path: Path, text: str) -> None:
    """``write_text``, with the folders above it where they are not there yet.

    Raises:
        StoreError: see there; or a folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {path.parent}: {error.strerror or error}", advice=remedy(error)) from error
    write_text(path, text)


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
        raise StoreError(f"cannot write {path.name}: {error.strerror or error}", advice=remedy(error)) from error


def remedy(error: OSError) -> str:
    """What to do about a file or folder that cannot be written."""
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "a file is in the way: choose another place with --output"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose a place that you may write to with --output"
    return "free some space or choose another folder with --output; what was written before is kept"


def redact_file(path: Path, secrets: Iterable[str]) -> None:
    """Replace secrets in a text file that others wrote, such as a server's log; it is rewritten only where one is."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        if all(redacted(line, secrets) == line for line in file):
            return
    partial = path.with_name(path.name + ".partial")
    with (
        path.open(encoding="utf-8", errors="surrogateescape") as old,
        partial.open("w", encoding="utf-8", errors="surrogateescape") as new,
    ):
        new.writelines(redacted(line, secrets) for line in old)
    partial.replace(path)


def digest(path: Path) -> str:
    """sha256 of a file (hex)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
