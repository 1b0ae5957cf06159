"""``llm-d-benchmark recommend``: what to set or to test, by a study or a run that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .explore import show


def recommend(
    folder: Annotated[
        Path, typer.Argument(metavar="STUDY|RUN", help="Folder of a study that explore made, or of a run.")
    ],
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Of a study: what to set, why, and what to measure next; writes its study.json and report.html anew.

    Of a run: which server flags are worth testing, by what limited it, and the search that tests them.

    Examples:

      llm-d-benchmark recommend results/20260131-1200-chat-study-1a2b

      llm-d-benchmark recommend results/20260131-1200-chat-1a2b > next.yaml
    """
    from ..runner.explore import is_run
    from ..runner.explore import recommend as conclude

    if is_run(folder):
        _of_run(folder, json_output)
    else:
        show(conclude(folder), folder, json_output)
    return 0


def _of_run(folder: Path, json_output: bool) -> None:
    from ..report.hypotheses import advice_lines
    from ..runner.explore import advise
    from ..store.comparison_json import to_json

    found = advise(folder)
    if json_output:
        typer.echo(to_json(found), nl=False)
        return
    for line in advice_lines(found):
        typer.echo(line)
