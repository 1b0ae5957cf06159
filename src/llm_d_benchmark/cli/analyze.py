"""``llm-d-benchmark analyze``: compute the result of a run folder anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def analyze(
    run: Annotated[Path, typer.Argument(help="Run folder, also one that a crash or kill left unfinished.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Recompute result.json and the reports of a run folder from its records alone."""
    from ..domain.errors import ExitCode
    from ..runner.finish import analyze_and_report
    from ..runner.options import RunOutcome
    from .show import print_outcome

    result = analyze_and_report(run)
    print_outcome(RunOutcome(run, result, ExitCode.OK, run / "report.html"), json_output)
    return 0
