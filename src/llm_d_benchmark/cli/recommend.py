"""``llm-d-benchmark recommend``: a study's conclusions, made again from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .explore import show


def recommend(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study that explore made.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """What to set, why, and what to measure next; writes the study's study.json and report.html anew.

    Example:

      llm-d-benchmark recommend results/20260131-1200-chat-study-1a2b
    """
    from ..runner.explore import recommend as conclude

    show(conclude(study), study, json_output)
    return 0
