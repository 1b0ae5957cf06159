"""``llm-d-benchmark compare``: any runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Run folders, or folders that hold some.")],
    metrics: Annotated[
        str | None, typer.Option(help="Metrics to show, e.g. ttft.p99,throughput; default: the usual ones.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="F", help="Write the table as CSV, unrounded.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="F", help="Write a self-contained HTML page.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON on stdout.")] = False,
) -> int:
    """Compare runs with the first: parameters that differ, and every metric at every load they share.

    Runs that differ in nothing but their seed form one column; their spread is what a difference is held against.

    Examples:

      llm-d-benchmark compare results/RUN1 results/RUN2 -o comparison.html

      llm-d-benchmark compare results/* --csv comparison.csv
    """
    from ..analyze.comparison.compare import METRICS
    from ..report.comparison_page import render_html
    from ..report.comparison_table import render_csv, render_lines
    from ..runner.compare import compare as compare_folders
    from ..store.comparison_json import to_json
    from ..store.files import write_text_anywhere
    from . import arguments as parse

    comparison, overlay = compare_folders(runs, metric_names(metrics) if metrics else METRICS)
    for path, text in (
        (csv, render_csv(comparison) if csv else ""),
        (output, render_html(comparison, overlay, parse.command_line()) if output else ""),
    ):
        if path is not None:
            write_text_anywhere(path, text)
    typer.echo(to_json(comparison) if json_output else render_lines(comparison), nl=not json_output)
    return 0


def metric_names(text: str) -> list[str]:
    """A comma list of metrics.

    Raises:
        ConfigError: an unknown one.
    """
    from ..analyze.comparison.levels import metric_refs
    from ..domain.errors import ConfigError

    names = [n.strip() for n in text.split(",") if n.strip()]
    try:
        metric_refs(names)
    except ValueError as error:
        raise ConfigError(f"--metrics: {error}") from None
    return names
