"""Finding and reading what a tool wrote, and what a disk says against writing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ...domain.errors import GeneratorError
from ...domain.events import Finding
from .plan import warning

T = TypeVar("T")
BLOCK = 1 << 23
_BETWEEN = b"\n  },\n  {"
"""Between the objects of an array that was written with an indent of two. No string can hold it: in JSON a line break
within one is escaped."""


def find(path: Path, patterns: Sequence[str], *, tool: str) -> Path:
    """The folder nearest below ``path`` that has a file of one of these patterns.

    Raises:
        GeneratorError: there is none, or there are several results.
    """
    if not path.exists():
        raise GeneratorError(f"{path} does not exist", advice=f"give the folder or the file that {tool} wrote")
    found = {f.parent for pattern in patterns for f in path.rglob(pattern) if f.is_file()}
    if not found:
        wanted = ", ".join(patterns)
        raise GeneratorError(f"no result of {tool} in {path}: looked for {wanted}", advice=f"did {tool} end properly?")
    depth = min(len(folder.parts) for folder in found)
    nearest = sorted(folder for folder in found if len(folder.parts) == depth)
    if len(nearest) > 1:
        names = ", ".join(str(folder.relative_to(path)) for folder in nearest[:4])
        raise GeneratorError(f"{len(nearest)} results of {tool} in {path}: {names}", advice="give one of these folders")
    return nearest[0]


def load_json(path: Path, *, tool: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        GeneratorError: it cannot be read, or is something else.
    """
    try:
        value = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise GeneratorError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise GeneratorError(f"{path} is no whole JSON file: {error}", advice=f"was {tool} stopped early?") from None
    if not isinstance(value, dict):
        raise GeneratorError(f"{path} is not a result of {tool}: it holds no JSON object")
    return value


def mapping(value: object) -> dict[str, Any]:
    """``value`` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def elements(path: Path, kind: type[T], *, tool: str) -> Iterator[T]:
    """The objects of a JSON array, one by one; of one with an indent of two in bounded memory.

    Raises:
        GeneratorError: it is no such array.
    """
    decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    try:
        for block in _blocks(path):
            yield from decoder.decode(block)
    except OSError as error:
        raise GeneratorError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise GeneratorError(f"{path} is not a whole result of {tool}: {error}", advice="was it cut off?") from None


def _blocks(path: Path) -> Iterator[bytes]:
    """The array as several smaller ones, where its indent shows where to part it; else as it is."""
    rest, first = b"", True
    with path.open("rb") as file:
        while chunk := file.read(BLOCK):
            rest += chunk
            cut = rest.rfind(_BETWEEN)
            if cut < 0:
                continue
            yield (b"" if first else b"[{") + rest[:cut] + b"\n}]"
            rest, first = rest[cut + len(_BETWEEN) :], False
    yield rest if first else b"[{" + rest


def lines(path: Path, kind: type[T], *, tool: str, findings: list[Finding]) -> Iterator[T]:
    """The objects of a JSON-lines file. A last line that was cut off is left out, with a finding.

    Raises:
        GeneratorError: it is no such file.
    """
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    if not line.endswith(b"\n"):
                        text = f"the last line of {path.name} ({number}) was cut off: it is left out"
                        findings.append(warning("left_out", text, f"was {tool} or the copy of its results cut short?"))
                        return
                    raise GeneratorError(f"{path}:{number} is not of a result of {tool}: {error}") from None
    except OSError as error:
        raise GeneratorError(f"{path} cannot be read: {error.strerror}") from None


@contextmanager
def disk(what: str) -> Iterator[None]:
    """Raises GeneratorError for a disk that is full or cannot be written."""
    try:
        yield
    except OSError as error:
        raise GeneratorError(
            f"{what}: {error.strerror or error}", advice="is there room, and may it be written?"
        ) from None
