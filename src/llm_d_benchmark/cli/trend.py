"""``llm-d-benchmark trend``: the history of a benchmark."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Key(StrEnum):
    DATE = "date"
    VERSION = "version"
    COMMIT = "commit"


def trend(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN|FOLDER] ...", help="Run folders, or folders that hold some.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Only runs of this name (metadata.name); * and ? stand for any text.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only runs of this model; * and ? stand for any text.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only runs with this label; repeatable.")
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only the last so many runs.")] = None,
    by: Annotated[
        Key, typer.Option(help="What names a run: when it started, or its label version or commit.")
    ] = Key.DATE,
    metrics: Annotated[str | None, typer.Option(help="Metrics to follow, e.g. ttft.p99,throughput.")] = None,
    magnitude: Annotated[str, typer.Option(help="The least change of level that is reported.")] = "5%",
    csv: Annotated[Path | None, typer.Option(metavar="F", help="Write every point as CSV.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="F", help="Write a self-contained HTML page.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the history as JSON on stdout.")] = False,
) -> int:
    """Trends and changes of level over the runs of a benchmark, with the runs between which a change came.

    Examples:

      llm-d-benchmark trend results --name nightly --by commit -o trend.html

      llm-d-benchmark trend results --metrics ttft.p99,throughput --last 30 --csv trend.csv

    A run knows its commit by its label: run --set metadata.labels.commit=$(git rev-parse --short HEAD).
    """
    from ..analyze.comparison.history import METRICS
    from ..report.trend import render_csv, render_html, render_lines
    from ..runner.trend import trend as history_of
    from ..store.comparison_json import to_json
    from ..store.files import write_text_anywhere
    from ..store.filter import RunFilter
    from . import arguments as parse
    from .compare import metric_names

    wanted = RunFilter(name, model, labels=parse.labels(label or []))
    names = metric_names(metrics) if metrics else METRICS
    found = history_of(runs or [Path("results")], wanted, names, last=last, by=by.value, magnitude=_fraction(magnitude))
    for path, text in (
        (csv, render_csv(found) if csv else ""),
        (output, render_html(found, parse.command_line()) if output else ""),
    ):
        if path is not None:
            write_text_anywhere(path, text)
    typer.echo(to_json(found) if json_output else render_lines(found), nl=not json_output)
    return 0


def _fraction(text: str) -> float:
    from ..domain.errors import ConfigError
    from ..domain.quantities import parse_quantity

    try:
        quantity = parse_quantity(text)
    except ValueError as error:
        raise ConfigError(f"--magnitude: {error}") from None
    if quantity.unit != "fraction" or not 0 < quantity.value < 1:
        raise ConfigError(f"--magnitude '{text}': write a percentage such as 5%")
    return quantity.value
