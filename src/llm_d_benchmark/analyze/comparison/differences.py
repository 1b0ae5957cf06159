"""Which parameters differ between configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...config.paths import format_path
from ...domain.comparison import Difference

Key = tuple[str | int, ...]
_NONE = object()
IDENTITY = ("metadata",)
"""Keys that name a run and change nothing of it."""


def differences(configs: Sequence[Mapping[str, Any]], *, ignore: Sequence[str] = IDENTITY) -> list[Difference]:
    """The keys whose values are not the same in every resolved configuration, in the order they stand there.

    Args:
        ignore: paths that are left out, with everything below them.
    """
    flat = [dict(_leaves(config, ())) for config in configs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    found = []
    for key in keys:
        path = format_path(key)
        values = [one.get(key, _NONE) for one in flat]
        same = all(v == values[0] and type(v) is type(values[0]) for v in values)
        if not same and not any(path == i or path.startswith(i + ".") for i in ignore):
            found.append(Difference(path, [None if v is _NONE else v for v in values]))
    return found


def _leaves(value: Any, path: Key) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from _leaves(child, (*path, str(key)))
    elif isinstance(value, list) and value:
        for i, child in enumerate(value):
            yield from _leaves(child, (*path, i))
    else:
        yield path, value
