"""Quantities as users write them: "30m", "256Gi", "<2000ms", ">50 tokens/s", "<$0.001"."""

from __future__ import annotations

import re

_DURATION_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_BYTE_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def parse_duration(value: object) -> float:
    """Seconds of "30m", "500ms", "1h30m" or a plain number of seconds.

    Raises:
        ValueError: it is no duration.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-zµ]+)", text)
    if (
        not parts
        or re.sub(r"(\d+(?:\.\d+)?)\s*([a-zµ]+)", "", text).strip()
        or any(u not in _DURATION_UNITS for _, u in parts)
    ):
        raise ValueError(f"'{value}' is not a duration; write for example 30m, 45s, 500ms or 1h30m")
    return sum(float(n) * _DURATION_UNITS[u] for n, u in parts)


def parse_bytes(value: object) -> int:
    """Bytes of "256Gi", "512MB", "1.5G" or a plain number.

    Raises:
        ValueError: it is no size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    m = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]i?)?[bB]?", str(value).strip())
    if not m:
        raise ValueError(f"'{value}' is not a size; write for example 256Gi, 512MB or 1024")
    return int(float(m[1]) * _BYTE_UNITS[(m[2] or "").lower()])
