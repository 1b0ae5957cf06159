"""Rows of data files (CSV, JSON, JSON lines), read one at a time, each with the place it came from."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
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
    try:
        with _open(path) as file:
            if kind == ".csv":
                yield from _csv(path, file)
            elif kind in (".jsonl", ".ndjson"):
                yield from _json_lines(path, file)
            elif kind == ".json":
                yield from _json(path, file)
            else:
                raise ConfigError(f"{path}: unknown kind of file; use .csv, .jsonl or .json (also with .gz)")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error


def _open(path: str) -> IO[str]:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return Path(path).open(encoding="utf-8-sig", newline="")


def _csv(path: str, file: IO[str]) -> Iterator[tuple[str, Row]]:
    for row in (reader := csv.DictReader(line for line in file if not line.startswith("#"))):
        yield f"{path}:{reader.line_num}", row


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
