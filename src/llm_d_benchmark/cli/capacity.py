"""``llm-d-benchmark capacity``: replicas, GPUs and cost for a load; and what fits into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

HELP = "Plan replicas, GPUs and cost for a load, within objectives; size memory."
MANY = frozenset({"--runs"})
app = typer.Typer(help=HELP, invoke_without_command=True, rich_markup_mode=None)


def expand(argv: Sequence[str]) -> list[str]:
    """``--runs A B`` as ``--runs A --runs B``."""
    found: list[str] = []
    many: str | None = None
    for word in argv:
        if word in MANY:
            many = word
        elif word.startswith("-"):
            many = None
            found.append(word)
        elif many is not None:
            found += [many, word]
        else:
            found.append(word)
    return found


@app.callback()
def capacity(
    context: typer.Context,
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration file; its spec.capacity_planning says what is planned."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Set one key, e.g. spec.capacity_planning.zones=2."),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN...", help="Measured runs of one deployment, at four levels of load or more."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the plan and its report.")] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Simulate what is planned, in virtual time.")
    ] = True,
    json_output: Annotated[bool, typer.Option("--json", help="Print the plan as JSON on stdout.")] = False,
) -> int | None:
    """Plan replicas, GPUs and cost for the scenarios of spec.capacity_planning, within spec.performance_targets.

    Without --runs a replica's speed comes from published figures of its hardware (a roofline), and the plan says so.

    Examples:

      llm-d-benchmark capacity -c examples/capacity.yaml -o plan

      llm-d-benchmark capacity -c examples/mission/advanced_config.yaml --runs results/a results/b

      llm-d-benchmark capacity memory --model llama-3.1-70b --gpu h100 --tp 4
    """
    if context.invoked_subcommand is not None:
        return None
    from ..config.layers import load_config
    from ..domain.errors import ConfigError
    from ..report.capacity import lines, render_files, to_json
    from ..report.capacity_page import render_html
    from ..runner.capacity import make_plan
    from ..store.files import write_text
    from . import arguments as parse

    if not config and not runs and not sets:
        raise ConfigError("there is nothing to plan for", advice="give -c FILE; examples/capacity.yaml is one")
    loaded = load_config(config or [], sets=sets or [])
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning.message}", err=True)
    found = make_plan(loaded.config, runs or [], check=check, say=lambda text: typer.echo(text, err=True))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in {**render_files(found), "capacity.html": render_html(found, parse.command_line())}.items():
            write_text(output / name, text)
    typer.echo(to_json(found) if json_output else lines(found), nl=not json_output)
    if output is not None:
        typer.echo(f"report: {output / 'capacity.html'}", err=True)
    return 0
