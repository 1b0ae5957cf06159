"""Reports of compared runs, as texts: the store is the only writer of folders."""

from __future__ import annotations

from ..domain.comparison import RegressionResult
from .junit import render_junit
from .regression import render_markdown
from .regression_page import render_html


def render_regression(result: RegressionResult, command: str = "") -> dict[str, str]:
    """File name to text: report.html, report.md, junit.xml."""
    return {
        "report.html": render_html(result, command),
        "report.md": render_markdown(result),
        "junit.xml": render_junit(result),
    }
