"""``llm-d-benchmark simulator run``: a whole benchmark in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..run import ProgressMode, carry_out, show_plan


def run(
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration file; repeat to lay one over another, later wins."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Set one key, e.g. spec.target.simulator.replicas=4; repeatable."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that the run's folder is made in.")] = Path(
        "results"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    fail_on: Annotated[
        str, typer.Option(help="What makes the exit code non-zero: slo, regression, invalid (comma list) or none.")
    ] = "invalid,slo,regression",
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    progress: Annotated[ProgressMode, typer.Option(help="How progress is shown on stderr.")] = ProgressMode.AUTO,
) -> int:
    """Run a benchmark against a simulated deployment in virtual time: an hour of load takes seconds.

    Every load generator of the configuration is replaced by the one of virtual time. The run folder is an ordinary
    one, marked as simulated.

    Examples:

      llm-d-benchmark simulator run -c examples/simulator-routing.yaml

      llm-d-benchmark simulator run --set spec.target.simulator.profile=llama-3.1-70b/h100
      --set spec.target.simulator.tensor_parallel_size=4
      --set spec.benchmark.load_generators.0.config.concurrency=64
    """
    from ...domain.schedule import Shard
    from ...runner.options import RunOptions
    from ...runner.virtual import in_virtual_time
    from .. import arguments as parse

    loaded = parse.load(config, sets=sets, overrides={"spec": {"target": {"type": "simulator"}}})
    loaded = in_virtual_time(loaded)
    reasons = parse.fail_on(fail_on)
    if dry_run:
        return show_plan(loaded, Shard(), json_output)
    options = RunOptions(output=output, command=parse.command_line(loaded), fail_on=reasons)
    return carry_out(loaded, options, progress, json_output)
