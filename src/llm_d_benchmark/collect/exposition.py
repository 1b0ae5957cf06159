"""Prometheus' text format to samples."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from prometheus_client.parser import text_string_to_metric_families

from ..domain.samples import Series, SeriesKind

_TOTALS = ("_total", "_sum", "_count", "_bucket")


def parse_exposition(text: str, source: str) -> Iterator[tuple[Series, float]]:
    """Every sample of a /metrics page; NaN and infinity are no measurements and left out.

    Raises:
        ValueError: it is not the text format.
    """
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if isfinite(sample.value) and not sample.name.endswith("_created"):
                labels = tuple(sorted(sample.labels.items()))
                yield Series(source, sample.name, labels, _kind(family.type, sample.name)), float(sample.value)


def _kind(family: str, name: str) -> SeriesKind:
    if family == "counter" or (family in ("histogram", "summary") and name.endswith(_TOTALS)):
        return SeriesKind.COUNTER
    if family in ("unknown", "untyped") and name.endswith("_total"):
        return SeriesKind.COUNTER  # by the naming convention, where a page does not say
    return SeriesKind.GAUGE
