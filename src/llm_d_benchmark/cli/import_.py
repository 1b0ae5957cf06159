"""``llm-d-benchmark import``: a run folder from results that another tool left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders that a tool wrote its results to.")],
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="TOOL",
            help="Who wrote them: an external load generator (see 'generators list') or llm-d-report; default: found "
            "out. Once for all paths, or once for each.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that the run's folder is made in.")] = Path(
        "results"
    ),
    name: Annotated[str | None, typer.Option(help="What the run is called; default: the tool's name.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Turn results of other tools into a run folder; several are set side by side.

    Examples:

      llm-d-benchmark import --from guidellm benchmarks.json -o results

      llm-d-benchmark import guidellm.json aiperf-artifacts/ -o results
    """
    from ..domain.errors import ExitCode
    from ..runner.ingest import import_results
    from ..runner.options import RunOutcome
    from . import arguments as parse
    from .findings import tell
    from .show import print_outcome

    folder, result = import_results(parse.sources(source or [], paths), output, name=name, command=parse.command_line())
    tell(f for f in result.findings if f.severity != "info")
    print_outcome(RunOutcome(folder, result, ExitCode.OK, folder / "report.html"), json_output)
    return int(ExitCode.GENERATOR_FAILED if result.status == "failed" else ExitCode.OK)
