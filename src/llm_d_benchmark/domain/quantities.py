"""Quantities as users write them: "30m", "256Gi", "<2000ms", ">50 tokens/s", "<$0.001", "p95_latency > 5s".

Everything is held in SI units: seconds, bytes, tokens/s, fractions. What the user wrote is kept beside it, so that a
configuration is written back as it was read.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

_DURATION_UNITS: Mapping[str, float] = MappingProxyType(
    {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
)
_BYTE_UNITS: Mapping[str, int] = MappingProxyType(
    {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
)
_COUNTED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("token", "tokens", "tok", "toks"), "tokens"),
        **dict.fromkeys(("request", "requests", "req", "reqs"), "requests"),
        **dict.fromkeys(("batch", "batches"), "batches"),
    }
)
_RATES: Mapping[str, str] = MappingProxyType({"rps": "requests/s", "qps": "requests/s", "tps": "tokens/s"})
_PER_SECOND: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("s", "sec", "second"), 1.0),
        **dict.fromkeys(("m", "min", "minute"), 60.0),
        **dict.fromkeys(("h", "hour"), 3600.0),
    }
)
_MULTIPLES: Mapping[str, float] = MappingProxyType({"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9})
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*([a-zµ]+)")
_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"

Operator = Literal["<", "<=", ">", ">="]
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)


def parse_duration(value: object) -> float:
    """Seconds of "30m", "500ms", "1h30m" or a plain number of seconds.

    Raises:
        ValueError: it is no duration.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    if re.fullmatch(_NUMBER, text):
        return float(text)
    parts = _DURATION_PART.findall(text)
    if not parts or _DURATION_PART.sub("", text).strip() or any(u not in _DURATION_UNITS for _, u in parts):
        raise ValueError(f"'{value}' is not a duration; write for example 30m, 45s, 500ms or 1h30m")
    return sum(float(n) * _DURATION_UNITS[u] for n, u in parts)


def parse_bytes(value: object) -> int:
    """Bytes of "256Gi", "512MB", "1.5G" or a plain number.

    Raises:
        ValueError: it is no size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    m = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kKmMgGtT]i?)?[bB]?", str(value).strip())
    if not m:
        raise ValueError(f"'{value}' is not a size; write for example 256Gi, 512MB or 1024")
    return int(float(m[1]) * _BYTE_UNITS[(m[2] or "").lower()])


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit.

    Attributes:
        value: in SI units.
        unit: s, bytes, bytes/s, fraction, tokens/s, requests/s, batches/s, tokens, requests, batches, USD, USD/token,
            USD/request, USD/s, or "" for a plain number.
        text: as it was written.
    """

    value: float
    unit: str
    text: str = field(compare=False, default="")

    def __str__(self) -> str:
        return self.text or f"{self.value!r} {self.unit}".strip()


def parse_quantity(value: object) -> Quantity:
    """A quantity of any dimension: "2000ms", "50 tokens/s", "$0.001/token", "5%", "256Gi", "10 rps", "3".

    Raises:
        ValueError: it is none; the message shows the forms there are.
    """
    text = str(value).strip()
    if not isinstance(value, bool):
        for read in (_plain, _percent, _money, _rate, _duration, _size):
            found = read(text)
            if found is not None and math.isfinite(found[0]):
                return Quantity(found[0], found[1], text)
    raise ValueError(
        f"'{value}' is not a quantity; write a number with its unit, for example 2000ms, 50 tokens/s, 10 requests/s, "
        "5%, 256Gi, $0.001/token or $2/hour"
    )


def _plain(text: str) -> tuple[float, str] | None:
    return (float(text), "") if re.fullmatch(_NUMBER, text) else None


def _percent(text: str) -> tuple[float, str] | None:
    m = re.fullmatch(rf"({_NUMBER})\s*%", text)
    return (float(m[1]) / 100, "fraction") if m else None


def _money(text: str) -> tuple[float, str] | None:
    m = re.fullmatch(rf"(?:\$\s*({_NUMBER})|({_NUMBER})\s*USD)(?:\s*/\s*([0-9]*)\s*([kKMB]?)\s*([a-zA-Z]+))?", text)
    if not m:
        return None
    amount = float(m[1] or m[2])
    if m[5] is None:
        return amount, "USD"
    many = float(m[3] or 1) * _MULTIPLES[m[4].lower()]
    per = _COUNTED.get(m[5])
    if per in ("tokens", "requests") and many:
        return amount / many, f"USD/{per.removesuffix('s')}"
    if m[5] in _PER_SECOND and not (m[3] or m[4]):
        return amount / _PER_SECOND[m[5]], "USD/s"
    return None


def _rate(text: str) -> tuple[float, str] | None:
    m = re.fullmatch(rf"({_NUMBER})\s*([a-zA-Z]+)(?:\s*(?:/|per)\s*([a-z]+))?", text)
    if not m:
        return None
    number, what, per = float(m[1]), m[2], m[3]
    if per is None:
        unit = _RATES.get(what) or _COUNTED.get(what)
        return (number, unit) if unit else None
    if per not in _PER_SECOND:
        return None
    if what in _COUNTED:
        return number / _PER_SECOND[per], f"{_COUNTED[what]}/s"
    size = _size(f"1 {what}")
    return (number * size[0] / _PER_SECOND[per], "bytes/s") if size else None


def _duration(text: str) -> tuple[float, str] | None:
    try:
        return parse_duration(text), "s"
    except ValueError:
        return None


def _size(text: str) -> tuple[float, str] | None:
    try:
        return float(parse_bytes(text)), "bytes"
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit such as "<2000ms", ">50 tokens/s", "<5%" or ">99.9% uptime".

    Attributes:
        op: which side of the limit is good (of an alert: which side fires).
        value: the limit in SI units.
        unit: see ``Quantity.unit``.
        subject: a word behind the quantity that says what is limited ("uptime"), else "".
        text: as it was written.
    """

    op: Operator
    value: float
    unit: str
    subject: str = ""
    text: str = field(compare=False, default="")

    def holds(self, value: float) -> bool:
        """Whether ``value`` (SI) is on the side that ``op`` names."""
        return _OPERATORS[self.op](value, self.value)

    @property
    def is_upper(self) -> bool:
        """True for "<" and "<=": lower is better."""
        return self.op in ("<", "<=")

    def __str__(self) -> str:
        return self.text or f"{self.op}{_canonical(self.value, self.unit)} {self.subject}".strip()


def _canonical(value: float, unit: str) -> str:
    if unit == "fraction":
        return f"{value * 100!r}%"
    if unit.startswith("USD"):
        return f"${value!r}{unit[3:]}"
    if unit == "bytes":
        return f"{value:.0f}B"
    if unit == "bytes/s":
        return f"{value!r}B/s"
    return f"{value!r} {unit}".strip()


def parse_threshold(value: object, *, subjects: tuple[str, ...] = ()) -> Threshold:
    """A comparison and a quantity; ``subjects`` are the words that may follow it.

    Raises:
        ValueError: no comparison, no quantity, or another word behind it.
    """
    text = str(value).strip()
    m = re.match(r"(<=|>=|<|>|≤|≥)\s*", text)
    if not m:
        raise ValueError(f"'{value}' has no comparison; write for example <2000ms, >50 tokens/s, <5% or <$0.001")
    op = {"≤": "<=", "≥": ">="}.get(m[1], m[1])
    rest, subject = text[m.end() :], ""
    for word in subjects:
        if rest.endswith(f" {word}"):
            rest, subject = rest.removesuffix(word).rstrip(), word
    quantity = parse_quantity(rest)
    return Threshold(_operator(op), quantity.value, quantity.unit, subject, text)


def _operator(text: str) -> Operator:
    for op in ("<", "<=", ">", ">="):
        if text == op:
            return op
    raise ValueError(f"'{text}' is not a comparison; allowed: <, <=, >, >=")


@dataclass(frozen=True, slots=True)
class AlertExpression:
    """``METRIC OP QUANTITY [for DURATION]``: "p95_latency > 5s", "error_rate > 1% for 30s".

    Attributes:
        metric: the name as written; the published table of aliases says which metric that is.
        threshold: the side that fires.
        for_s: seconds that it must hold before it fires.
    """

    metric: str
    threshold: Threshold
    for_s: float = 0.0
    text: str = field(compare=False, default="")

    def fires(self, value: float) -> bool:
        """Whether ``value`` (SI) is beyond the limit; ``for_s`` is the caller's to keep."""
        return self.threshold.holds(value)

    def __str__(self) -> str:
        lasting = f" for {self.for_s!r}s" if self.for_s else ""
        return self.text or f"{self.metric} {self.threshold}{lasting}"


def parse_alert(value: object) -> AlertExpression:
    """An alert expression.

    Raises:
        ValueError: it is not of that form.
    """
    text = str(value).strip()
    m = re.fullmatch(r"([A-Za-z_][\w.]*)\s*((?:<=|>=|<|>|≤|≥).+?)(?:\s+for\s+(\S+))?", text)
    if not m:
        raise ValueError(
            f"'{value}' is not an alert; write METRIC > LIMIT, for example 'p95_latency > 5s' "
            "or 'error_rate > 1% for 30s'"
        )
    return AlertExpression(m[1], parse_threshold(m[2]), parse_duration(m[3]) if m[3] else 0.0, text)


@dataclass(frozen=True, slots=True)
class ResourceQuantity:
    """A Kubernetes resource quantity: 8, "500m" (0.5), "256Gi"; ``text`` as it was written."""

    value: float
    text: str = field(compare=False, default="")

    def __str__(self) -> str:
        return self.text or repr(self.value)


def parse_resource(value: object) -> ResourceQuantity:
    """A resource quantity as Kubernetes writes them.

    Raises:
        ValueError: it is none, or it is negative.
    """
    text = str(value).strip()
    m = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", text)
    if not m or isinstance(value, bool):
        raise ValueError(f"'{value}' is not a resource quantity; write for example 8, 500m or 256Gi")
    factor = 1e-3 if m[2] == "m" else _BYTE_UNITS[(m[2] or "").lower()]
    return ResourceQuantity(float(m[1]) * factor, text)
