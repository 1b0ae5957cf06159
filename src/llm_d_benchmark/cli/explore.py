"""``llm-d-benchmark explore``: search configurations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .run import ProgressMode

if TYPE_CHECKING:
    from ..domain.study import StudyResult


def explore(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            "-c",
            help="Configuration file; its spec.experiment_design or spec.configuration_optimization says what to vary.",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Explore the OpenAI-compatible server at this URL.")] = None,
    model: Annotated[str | None, typer.Option(help="Model name; default: what the server lists.")] = None,
    target: Annotated[str | None, typer.Option(help="Where the server comes from: existing, process, local.")] = None,
    load_generator: Annotated[str | None, typer.Option(help="Use only this load generator.")] = None,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="On the simulator in virtual time, whatever target the file names.")
    ] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set one key; repeatable.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that the study's folder is made in.")] = Path(
        "results"
    ),
    resume: Annotated[
        Path | None, typer.Option(metavar="STUDY", help="Go on with a study that was interrupted.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    progress: Annotated[
        ProgressMode, typer.Option(help="How the runs' progress is shown on stderr.")
    ] = ProgressMode.NONE,
) -> int:
    """Measure many configurations: which is best within the limits, which factor matters, what to set.

    Examples:

      llm-d-benchmark explore -c examples/explore.yaml

      llm-d-benchmark explore -c optimization.yaml --virtual -o studies

      llm-d-benchmark explore -c examples/explore.yaml --resume results/STUDY
    """
    from ..report.progress import make_progress
    from ..runner.explore import ExploreOptions
    from ..runner.explore import explore as run_study
    from ..runner.virtual import in_virtual_time
    from . import arguments as parse
    from .findings import tell
    from .interrupt import until_signal

    overrides = parse.target_overrides(url, model, "simulator" if virtual else target)
    loaded = parse.load(config, sets=sets, overrides=overrides, load_generator=load_generator)
    if virtual:
        loaded = in_virtual_time(loaded)
    tell(loaded.warnings)
    options = ExploreOptions(
        output=output, command=parse.command_line(loaded), resume=resume, say=lambda line: typer.echo(line, err=True)
    )
    with loaded.locating(), make_progress(progress.value) as shown:
        outcome = until_signal(lambda stop: run_study(loaded, options, observers=[shown], stop=stop))
    show(outcome.result, outcome.folder, json_output)
    if outcome.failure is not None:
        typer.secho(f"ended early: {outcome.failure.message}", fg=typer.colors.RED, err=True)
    return int(outcome.exit_code)


def show(result: StudyResult, folder: Path, json_output: bool) -> None:
    from ..report.explore import render_lines
    from ..store.comparison_json import to_json

    if json_output:
        typer.echo(to_json(result), nl=False)
        return
    typer.echo(render_lines(result))
    typer.echo(f"report: {folder / 'report.html'}")
