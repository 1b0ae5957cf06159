"""``llm-d-benchmark run``: the main job."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..config.layers import LoadedConfig
    from ..runner.options import RunOptions, RunOutcome


class ProgressMode(StrEnum):
    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


def run(
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration file; repeat to lay one over another, later wins."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Measure the OpenAI-compatible server at this URL.")] = None,
    model: Annotated[str | None, typer.Option(help="Model name; default: what the server lists.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Where the server comes from: existing, process, local, simulator.")
    ] = None,
    load_generator: Annotated[
        str | None, typer.Option(help="Use only this load generator; a file without 'kind' is its configuration.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Set one key, e.g. spec.benchmark.duration=30m; repeatable."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that the run's folder is made in.")] = Path(
        "results"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    fail_on: Annotated[
        str, typer.Option(help="What makes the exit code non-zero: slo, regression, invalid (comma list) or none.")
    ] = "invalid,slo,regression",
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="Judge this run against 5 or more finished ones, or a folder of them; exit 4 if slower.",
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    progress: Annotated[ProgressMode, typer.Option(help="How progress is shown on stderr.")] = ProgressMode.AUTO,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Send only part I of N of the schedule (I from 0); join parts with 'merge'."),
    ] = None,
    start_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Start the load at this time: ISO 8601, epoch seconds, or +SECONDS from now."
        ),
    ] = None,
) -> int:
    """Deploy or attach, load, measure, analyse, report, clean up.

    Examples:

      llm-d-benchmark run --target local

      llm-d-benchmark run --url http://localhost:8000 --set spec.benchmark.load_generators.0.config.concurrency=16

      llm-d-benchmark run -c benchmark-config.yaml -o results --fail-on slo,invalid
    """
    from . import arguments as parse

    loaded = parse.load(
        config, sets=sets, overrides=parse.target_overrides(url, model, target), load_generator=load_generator
    )
    part, start, reasons = parse.shard(shard), parse.start_time(start_at), parse.fail_on(fail_on)
    if dry_run:
        return show_plan(loaded, part, json_output)
    # Its imports take as long as those of this command that are still to come, so both are done at once.
    from ..loadgen.native.spare import start_worker

    first = next((g.type for g in loaded.config.spec.benchmark.load_generators), None)
    worker = start_worker() if first == "native" else None
    from ..runner.options import RunOptions

    options = RunOptions(
        worker=worker,
        output=output,
        command=parse.command_line(loaded),
        shard=part,
        start_at=start,
        fail_on=reasons,
        baseline=tuple(baseline or ()),
    )
    return carry_out(loaded, options, progress, json_output)


def show_plan(loaded: LoadedConfig, shard: Any, json_output: bool) -> int:
    import json

    from ..runner.dryrun import plan
    from .show import print_plan

    with loaded.locating():
        planned = plan(loaded, shard)
    if json_output:
        typer.echo(json.dumps(planned.to_dict(), indent=2))
    else:
        print_plan(planned)
    return 0


def carry_out(loaded: LoadedConfig, options: RunOptions, progress: ProgressMode, json_output: bool) -> int:
    from ..report.progress import make_progress
    from ..runner.dryrun import extent
    from .interrupt import run_until_signal
    from .show import print_outcome

    with loaded.locating(), make_progress(progress.value) as shown:
        stages, seconds = extent(loaded.config)
        shown.plan(stages, seconds)
        outcome: RunOutcome = run_until_signal(loaded, options, [shown])
    print_outcome(outcome, json_output)
    return int(outcome.exit_code)
