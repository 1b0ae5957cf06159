"""The figures of the HTML report."""

from __future__ import annotations

from .agreement import figures as agreement
from .api import ReportInput
from .distributions import distributions
from .plot import Figure
from .saturation import saturation
from .timeline import timeline


def figures(source: ReportInput) -> list[Figure]:
    """Every figure the run has data for, in the order they are shown."""
    return [
        *agreement(source.result),
        *saturation(source.result),
        *distributions(source.curves, source.result),
        *timeline(source.curves, source.result),
    ]
