"""Rows of data files (CSV, JSON, JSON lines), read one at a time, each with the place it came from."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, takewhile
from pathlib import Path
from typing import IO, Any

from ..domain.errors import ConfigError

Row = Mapping[str, Any]


def read_rows(path: str) -> Iterator[tuple[str, Row]]:
    """``(file:line, row)`` of every row; a JSON array's rows are numbered from 1.

    Raises:
        ConfigError: the file cannot be read, or a row is malformed (with file and line).
    """
    kind = Path(path.removesuffix(".gz")).suffix.lower()
    with _readable(path) as file:
        if kind == ".csv":
            yield from _csv(path, file)
        elif kind in (".jsonl", ".ndjson"):
            yield from _json_lines(path, file)
        elif kind == ".json":
            yield from _json(path, file)
        else:
            raise ConfigError(f"{path}: unknown kind of file; use .csv, .jsonl or .json (also with .gz)")


def head_comments(path: str) -> list[str]:
    """The comment lines at the beginning of a CSV file, without their ``#``; of other files none."""
    if Path(path.removesuffix(".gz")).suffix.lower() != ".csv":
        return []
    with _readable(path) as file:
        return [line[1:].strip() for line in takewhile(_is_comment, file)]


@contextmanager
def _readable(path: str) -> Iterator[IO[str]]:
    """The open file; trouble while it is read is the user's to mend."""
    try:
        if path.endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as packed:
                yield packed
        else:
            with Path(path).open(encoding="utf-8-sig", newline="") as plain:
                yield plain
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _csv(path: str, file: IO[str]) -> Iterator[tuple[str, Row]]:
    """Only comments above the header are passed over: below it a line may begin with # inside a quoted prompt."""
    comments = 0
    lines: Iterator[str] = iter(())
    for line in file:
        if not _is_comment(line):
            lines = chain([line], file)
            break
        comments += 1
    reader = csv.DictReader(lines)
    try:
        for row in reader:
            yield f"{path}:{comments + reader.line_num}", row
    except csv.Error as error:
        place = f"{path}:{comments + reader.line_num}"
        raise ConfigError(f"{place}: {error}", advice="very long prompts need a .jsonl file") from error


def _json_lines(path: str, file: IO[str]) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _checked(f"{path}:{number}", line)


def _checked(place: str, text: str) -> tuple[str, Row]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{place}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: a row must be a JSON object")
    return place, value


def _json(path: str, file: IO[str]) -> Iterator[tuple[str, Row]]:
    try:
        values = json.load(file)
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, list):
        raise ConfigError(f"{path}: a JSON file must hold an array of rows")
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: row {number} must be a JSON object")
        yield f"{path}: row {number}", value


def field_of(place: str, row: Row, names: Sequence[str], what: str) -> Any:
    """The value of the first of ``names`` that the row has one for.

    Raises:
        ConfigError: it has none of them.
    """
    return row[_given(place, row, names, what)]


def _given(place: str, row: Row, names: Sequence[str], what: str) -> str:
    for name in names:
        if row.get(name) not in (None, ""):
            return name
    raise ConfigError(f"{place}: no {what}", advice=f"a trace row needs one of: {', '.join(names)}")


def number(place: str, row: Row, names: Sequence[str]) -> int:
    """A number of tokens, at least 1, from the first of ``names`` that the row has.

    Raises:
        ConfigError: it has none, or it is no number.
    """
    name = _given(place, row, names, names[0])
    try:
        return max(1, int(float(row[name])))
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{place}: {name} '{row[name]}' is not a number of tokens") from None
