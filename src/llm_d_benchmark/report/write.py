"""Every report of a run at once, as texts: the store is the only writer of run folders."""

from __future__ import annotations

from .api import ReportInput
from .benchmark_report import render_benchmark_reports
from .csv import render_csv
from .html import render_html
from .markdown import render_markdown


def render_all(source: ReportInput) -> dict[str, str]:
    """File name to text: report.html, report.md, result.csv, benchmark_report.yaml (and one more for each stage
    of several)."""
    return {
        "report.html": render_html(source),
        "report.md": render_markdown(source),
        "result.csv": render_csv(source.result),
        **render_benchmark_reports(source),
    }
