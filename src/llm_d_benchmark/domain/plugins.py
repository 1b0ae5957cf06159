"""What is installed under the entry-point groups of the extension points."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, sorted; nothing is imported. Of two with one name the first on the path."""
    found: dict[str, EntryPoint] = {}
    for point in _installed()(group=group):
        found.setdefault(point.name, point)
    return dict(sorted(found.items()))


@cache
def _installed() -> Callable[..., EntryPoints]:
    # Reading every installed package's metadata takes 15 ms, and a short run asked for it seven times.
    return entry_points().select
