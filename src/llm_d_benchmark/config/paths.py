"""Paths of configuration keys: ``spec.benchmark.load_generators.0.config.concurrency``.

A key that contains a dot is quoted: ``spec.models.0.resources.requests."nvidia.com/gpu"``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

Path = tuple[str | int, ...]
"""Mapping keys as str, list positions as int."""

_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[^.\s"]+')


def format_path(path: Sequence[str | int]) -> str:
    return ".".join(_format_part(p) for p in path)


def _format_part(part: str | int) -> str:
    if isinstance(part, int):
        return str(part)
    plain = re.fullmatch(r'[^.\s"=]+', part) and not part.isdecimal()
    return part if plain else json.dumps(part, ensure_ascii=False)


def parse_path(text: str) -> Path:
    """The inverse of ``format_path``.

    Raises:
        ValueError: an empty part, or a quote that does not close.
    """
    parts: list[str | int] = []
    at = 0
    while True:
        m = _PART.match(text, at)
        if not m:
            raise ValueError(f"'{text}' is not a path of keys; write for example spec.benchmark.duration")
        word = m[0]
        if word.startswith('"'):
            parts.append(str(json.loads(word)))
        else:
            parts.append(int(word) if word.isdecimal() and word.isascii() else word)
        at = m.end()
        if at == len(text):
            return tuple(parts)
        if text[at] != ".":
            raise ValueError(f"'{text}' is not a path of keys; write for example spec.benchmark.duration")
        at += 1
