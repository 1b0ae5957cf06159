"""What a run and a plan look like on a terminal."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import typer

from ..domain.errors import ExitCode
from ..report.console import render_summary
from ..report.format import duration
from ..runner.dryrun import Plan, PlannedStage
from ..runner.options import RunOutcome
from ..store.result_json import to_json
from .findings import line

if TYPE_CHECKING:
    from ..runner.regress_plan import RegressionPlan


def print_outcome(outcome: RunOutcome, json_output: bool) -> None:
    """The result on stdout: as JSON, or as a table followed by where the report is."""
    if json_output:
        typer.echo(to_json(outcome.result))
        return
    width = shutil.get_terminal_size((100, 24)).columns
    typer.echo(render_summary(outcome.result, width=width, color=sys.stdout.isatty()))
    if outcome.regression is not None:
        from ..report.regression import render_lines  # only few runs are judged

        typer.echo(render_lines(outcome.regression))
    if outcome.failure:
        word = "failed" if outcome.failure.exit_code is ExitCode.GENERATOR_FAILED else "ended early"
        typer.secho(f"{word}: {outcome.failure.message}", fg=typer.colors.RED)
        if outcome.failure.advice:
            typer.echo(f"  -> {outcome.failure.advice}")
    typer.echo(f"report: {outcome.report}")


def print_plan(plan: Plan) -> None:
    """The plan of ``--dry-run``."""
    typer.echo("target")
    for key, value in plan.target.items():
        typer.echo(f"  {key}: {_size(value) if key.endswith('_bytes') else value}")
    typer.echo("stages")
    for planned in plan.stages:
        typer.echo(f"  {planned.stage.index}: {_stage(planned)}")
    for lengths in plan.lengths:
        typer.echo(f"lengths\n  input: {lengths['input']}\n  output: {lengths['output']}")
    requests = "the server's speed decides" if plan.requests is None else f"about {plan.requests:,.0f}"
    seconds = "until the requests are done" if plan.seconds is None else f"{plan.seconds:,.0f} s plus drain"
    typer.echo(
        f"in all\n  requests: {requests}\n  duration: {seconds}\n  client memory: about {_size(plan.client_bytes)}"
    )
    for finding in plan.findings:
        typer.echo(line(finding))


def print_regression_plan(plan: RegressionPlan) -> None:
    """The plan of ``regress --dry-run``."""
    for arm in plan.arms:
        typer.echo(f"{arm.side}: {arm.version}")
        for key, value in arm.run.target.items():
            typer.echo(f"  {key}: {_size(value) if key.endswith('_bytes') else value}")
    typer.echo("stages of each run")
    for planned in plan.arms[0].run.stages:
        typer.echo(f"  {planned.stage.index}: {_stage(planned)}")
    typer.echo("in all")
    pairs = f"{plan.least_pairs} to {plan.most_pairs}"
    typer.echo(f"  pairs of runs: {pairs}, planned after the first {plan.least_pairs} from their noise")
    if plan.pair_s is None:
        typer.echo("  load: until the requests are done; the servers' speed decides")
    else:
        least, most = (duration(n * plan.pair_s) for n in (plan.least_pairs, plan.most_pairs))
        typer.echo(f"  load: {least} to {most}; starting the servers and draining come on top")
    if plan.budget_s is not None:
        typer.echo(f"  time budget: no further pair starts after {duration(plan.budget_s)}")
    typer.echo("criteria")
    for name, limit in plan.criteria.items():
        typer.echo(f"  {name.replace('_', ' ')}: {limit}")
    typer.echo(f"  metrics that decide: {', '.join(plan.deciding) or 'none'}")
    typer.echo(f"  shown beside them: {', '.join(plan.shown)}")
    for note in plan.notes:
        typer.echo(f"note: {note}")
    told = (f for arm in plan.arms for f in arm.run.findings)
    for text in dict.fromkeys(map(line, told)):
        typer.echo(text)


def _stage(planned: PlannedStage) -> str:
    stage = planned.stage
    bound = [f"{stage.warmup_s:g} s warm-up"] if stage.warmup_s else []
    bound += [f"{stage.duration_s:g} s measured"] if stage.duration_s else []
    bound += [f"{stage.cooldown_s:g} s cool-down"] if stage.cooldown_s else []
    bound += [f"{stage.num_requests} requests"] if stage.num_requests else []
    expected = f", about {planned.requests:,.0f} requests" if planned.requests is not None else ""
    note = " (at most; each load is chosen from the last result)" if planned.adaptive else ""
    return (
        f"{stage.name} [{planned.generator}] {stage.load.label()}, {stage.endpoint}: {', '.join(bound)}{expected}{note}"
    )


def _size(value: object) -> str:
    return f"{value / 2**20:,.0f} MiB" if isinstance(value, int | float) else str(value)
