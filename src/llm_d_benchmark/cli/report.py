"""``llm-d-benchmark report``: render the reports of a run folder again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="Run folder with a result.json.")]) -> int:
    """Render report.html, Markdown, CSV and the llm-d Benchmark Report from a finished run folder."""
    from ..runner.finish import report_folder

    typer.echo(report_folder(run))
    return 0
