"""The nearest known spelling of a mistyped word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHORTEST = 3
"""Letters of a word that is taken for the beginning of another."""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to ``word``, or the only one that begins with it; None where none is near."""
    by_lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    begun = [k for k in by_lower if len(word) >= SHORTEST and k.startswith(word.lower())]
    found = found or (begun if len(begun) == 1 else [])
    return by_lower[found[0]] if found else None


def nearest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` to append to a message, or nothing."""
    found = closest(word, known)
    return f"; did you mean '{found}'?" if found else ""
