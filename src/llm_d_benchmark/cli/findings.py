"""Findings as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from ..domain.events import Finding
from ..domain.result import FindingRecord


def line(finding: Finding | FindingRecord, label: str | None = None) -> str:
    """One finding, with its advice below; ``label`` stands for its severity."""
    advice = f"\n  -> {finding.advice}" if finding.advice else ""
    return f"{label or finding.severity}: {finding.message}{advice}"


def tell(findings: Iterable[Finding | FindingRecord]) -> None:
    """Say findings beside a command's output, on stderr."""
    for finding in findings:
        typer.echo(line(finding), err=True)
