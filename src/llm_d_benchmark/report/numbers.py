"""Numbers of the HTML report. Each carries a JSON pointer to its place in result.json, and its unrounded value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from ..domain.result import RunResult
from .format import DASH, TOO_FEW, Scale, count, digits, scale_of

_UNSURE = Markup('<span class="unsure" title="{}">*</span>').format(TOO_FEW)
_OTHERS = Markup('<span class="unsure" title="{}">*</span>').format("as the tool reports it, without limits")


def pointer_part(key: str) -> str:
    """``key`` as one part of a JSON pointer (a model name may contain a slash)."""
    return key.replace("~", "~0").replace("/", "~1")


class Numbers:
    """Looks values up by JSON pointer (``/stages/0/metrics/ttft/mean``) and writes them as HTML.

    The reasons of absent values become numbered notes; ``notes`` lists them in order.
    """

    def __init__(self, result: RunResult) -> None:
        self._root = dataclasses.asdict(result)
        self._notes: dict[str, int] = {}

    @property
    def notes(self) -> list[str]:
        return list(self._notes)

    def get(self, pointer: str) -> Any:
        """The value at ``pointer``; an absent parent's ``{absent: reason}`` stands for all that would be under it.

        Raises:
            KeyError, IndexError: the result has no such field.
        """
        value: Any = self._root
        for part in pointer.strip("/").split("/"):
            if isinstance(value, Mapping):
                if "absent" in value:
                    return value
                value = value[part.replace("~1", "/").replace("~0", "~")]
            else:
                value = value[int(part)]
        return value

    def scale(self, pointers: Iterable[str], unit: str | None = None) -> Scale:
        """One scale for all of these values."""
        found = [self.get(p) for p in pointers]
        values = [v for v in (_number(f) for f in found) if v is not None]
        units = [f["unit"] for f in found if isinstance(f, Mapping) and "unit" in f]
        return scale_of(unit or (units[0] if units else ""), values)

    def unit(self, pointer: str) -> str:
        """The unit of a distribution or scalar; seconds where it is absent."""
        value = self.get(pointer)
        return str(value["unit"]) if isinstance(value, Mapping) and "unit" in value else "s"

    def show(self, pointer: str, scale: Scale | None = None, *, symbol: bool = True, limits: bool = False) -> Markup:
        """The value at ``pointer`` as HTML.

        Args:
            scale: how to show it; by default what reads best for this value alone.
            symbol: write the unit behind it.
            limits: write confidence limits, or "insufficient", under it.
        """
        value = self.get(pointer)
        if value is None or (isinstance(value, Mapping) and "absent" in value):
            return self.absent("not measured" if value is None else str(value["absent"]))
        raw = _number(value)
        if raw is None:
            return Markup("{}").format(value)
        unit = str(value.get("unit", "")) if isinstance(value, Mapping) else ""
        chosen = scale or scale_of(unit, [raw])
        at = f"{pointer}/value" if isinstance(value, Mapping) else pointer
        html = _number_html(at, raw, chosen, value if isinstance(value, Mapping) else {})
        if isinstance(value, Mapping) and not limits:
            html += _UNSURE if value.get("insufficient") else _OTHERS if value.get("reported") else ""
        if symbol and chosen.symbol:
            html += Markup(' <span class="unit">{}</span>').format(chosen.symbol)
        if limits and isinstance(value, Mapping):
            html += _limits_html(pointer, value, chosen)
        return html

    def absent(self, reason: str) -> Markup:
        """A dash whose reason shows on hover and as a numbered note."""
        number = self._notes.setdefault(reason, len(self._notes) + 1)
        mark = Markup('<sup><a href="#note-{0}" aria-label="note {0}">{0}</a></sup>').format(number)
        return Markup('<span class="absent" title="{}">{}{}</span>').format(reason, DASH, mark)


def _number(value: Any) -> float | int | None:
    inner = value.get("value") if isinstance(value, Mapping) else value
    return inner if isinstance(inner, int | float) and not isinstance(inner, bool) else None


def _text(raw: float | int, scale: Scale) -> str:
    return count(raw) if isinstance(raw, int) and scale.factor == 1 else digits(raw * scale.factor)


def _number_html(pointer: str, raw: float | int, scale: Scale, value: Mapping[str, Any]) -> Markup:
    title = f"{raw!r} {value.get('unit', '')}".strip()
    if "low" in value:
        title += f"; 95 % limits {value['low']!r} to {value['high']!r}"
    if value.get("insufficient"):
        title += "; too few requests for confidence limits"
    return Markup('<data class="n" value="{}" data-pointer="{}" data-factor="{}" title="{}">{}</data>').format(
        repr(raw), pointer, repr(scale.factor), title, _text(raw, scale)
    )


def _limits_html(pointer: str, value: Mapping[str, Any], scale: Scale) -> Markup:
    for word in ("insufficient", "reported"):
        if value.get(word):
            return Markup('<small class="limits">{}</small>').format(word)
    if "low" not in value:
        return Markup("")
    low, high = (_number_html(f"{pointer}/{end}", value[end], scale, {}) for end in ("low", "high"))
    return Markup('<small class="limits">{} – {}</small>').format(low, high)
