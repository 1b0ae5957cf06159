"""``llm-d-benchmark merge``: one result from the run folders of several machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Run folders made with --shard 0/N ... N-1/N.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder that the merged run folder is made in.")
    ] = Path("results"),
    fail_on: Annotated[
        str, typer.Option(help="What makes the exit code non-zero: slo, regression, invalid (comma list) or none.")
    ] = "invalid,slo,regression",
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Join the parts of one schedule by their records, so that percentiles stay exact."""
    from ..runner.finish import analyze_and_report
    from ..runner.options import RunOutcome
    from ..runner.verdict import exit_code
    from ..store.folder import RunFolder
    from ..store.merge import merge as merge_folders
    from . import arguments as parse
    from .show import print_outcome

    reasons = parse.fail_on(fail_on)
    merged = merge_folders([RunFolder.open(run) for run in runs], output)
    result = analyze_and_report(merged)
    code = exit_code(result, reasons)
    print_outcome(RunOutcome(merged, result, code, merged / "report.html"), json_output)
    return int(code)
