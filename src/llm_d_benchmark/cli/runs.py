"""``llm-d-benchmark runs``: find, show, delete and export runs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..domain.errors import StoreError

if TYPE_CHECKING:
    from ..store.filter import RunFilter
    from ..store.index import IndexedRun, RunIndex

app = typer.Typer(help="Runs on disk: list, show, delete, export.", no_args_is_help=True, rich_markup_mode=None)

Dir = Annotated[Path, typer.Option("--dir", "-d", help="Folder that holds run folders, at any depth.")]
Index = Annotated[
    str | None,
    typer.Option(
        envvar="LLM_D_BENCHMARK_INDEX",
        help="Database of the index, as a URL (sqlite:///FILE, postgresql://USER@HOST/DB); default: a file in --dir.",
    ),
]
Name = Annotated[str | None, typer.Option(help="Name of the runs; * and ? stand for any text.")]
Model = Annotated[str | None, typer.Option(help="Model that was measured; * and ? stand for any text.")]
Target = Annotated[str | None, typer.Option(help="Type of target: existing, process, local, simulator, ...")]
Status = Annotated[str | None, typer.Option(help="ok, invalid, partial, failed, running or 'no result'.")]
Generator = Annotated[str | None, typer.Option(help="Load generator that was used.")]
Since = Annotated[str | None, typer.Option(help="Started then or later: 2026-01-31, an ISO 8601 time, or 7d, 12h ago.")]
Until = Annotated[str | None, typer.Option(help="Started before; written like --since.")]
Label = Annotated[list[str] | None, typer.Option(help="KEY=VALUE of metadata.labels; repeat for several.")]
Simulated = Annotated[bool | None, typer.Option("--simulated/--measured", help="Only simulated, or only real runs.")]


@app.command("list")
def list_runs(
    directory: Dir = Path("results"),
    index: Index = None,
    name: Name = None,
    model: Model = None,
    target: Target = None,
    status: Status = None,
    generator: Generator = None,
    since: Since = None,
    until: Until = None,
    label: Label = None,
    simulated: Simulated = None,
    limit: Annotated[int, typer.Option(min=1, help="Show this many, latest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known of each, as JSON on stdout.")] = False,
    rebuild: Annotated[bool, typer.Option(help="Make the index anew from the folders.")] = False,
) -> int:
    """List runs, latest first.

    Examples:

      llm-d-benchmark runs list --name "nightly*" --since 7d --status ok

      llm-d-benchmark runs list -d results --label commit=1a2b3c --json
    """
    wanted = _filter(name, model, target, status, generator, since, until, label, simulated)
    with _open(directory, index, rebuild) as runs:
        found = runs.runs(wanted, stages=as_json)
    if as_json:
        typer.echo(json.dumps([_plain(r) for r in found[:limit]], indent=2))
        return 0
    if not found:
        typer.echo(f"no such run under {directory}")
    else:
        typer.echo(_table(found[:limit]))
        if len(found) > limit:
            typer.echo(f"{len(found) - limit} more; --limit {len(found)} shows all", err=True)
    return 0


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="Id, the beginning of an id, or the folder of a run.")],
    directory: Dir = Path("results"),
    index: Index = None,
    as_json: Annotated[bool, typer.Option("--json", help="Its result.json on stdout.")] = False,
) -> int:
    """Show the result of one run, and where it is.

    Examples:

      llm-d-benchmark runs show 20260131-1200
    """
    from ..report.console import render_summary
    from ..store.folder import RunFolder
    from ..store.result_json import to_json

    folder = RunFolder.open(_path(run, directory, index))
    result = folder.result()
    if as_json:
        typer.echo(to_json(result))
        return 0
    width = shutil.get_terminal_size((100, 24)).columns
    typer.echo(render_summary(result, width=width, color=sys.stdout.isatty()))
    typer.echo(f"folder: {folder.path}")
    return 0


@app.command()
def delete(
    run: Annotated[list[str], typer.Argument(help="Ids, beginnings of ids, or folders of runs.")],
    directory: Dir = Path("results"),
    index: Index = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Delete run folders with all that was measured.

    Examples:

      llm-d-benchmark runs delete 20260131-1200 --yes
    """
    with _open(directory, index) as runs:
        chosen = list({r.path: r for r in (runs.resolve(name) for name in run)}.values())
        if busy := [r.run_id for r in chosen if r.status == "running"]:
            raise StoreError(
                f"still running, or killed: {', '.join(busy)}", advice="analyze it first, or remove it by hand"
            )
        for each in chosen:
            typer.echo(f"{each.path}  ({each.name}, {each.status}, {each.requests} requests)")
        if not yes and not typer.confirm(f"delete {len(chosen)} run folder{'s' * (len(chosen) > 1)}?"):
            raise typer.Abort
        for each in chosen:
            try:
                shutil.rmtree(each.path)
            except OSError as error:
                raise StoreError(f"cannot delete {each.path}: {error.strerror or error}") from error
        runs.sync()
    typer.echo(f"{len(chosen)} deleted")
    return 0


@app.command()
def export(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="FILE.csv or FILE.json for the metrics; FILE.zip, FILE.tar or FILE.tar.gz for the folders.",
        ),
    ],
    run: Annotated[
        list[str] | None, typer.Argument(help="Runs by id or folder; default: all that the options mean.")
    ] = None,
    directory: Dir = Path("results"),
    index: Index = None,
    name: Name = None,
    model: Model = None,
    target: Target = None,
    status: Status = None,
    generator: Generator = None,
    since: Since = None,
    until: Until = None,
    label: Label = None,
    simulated: Simulated = None,
) -> int:
    """Export the metrics of runs as one table, or their folders as one archive.

    Examples:

      llm-d-benchmark runs export --name "nightly*" -o nightly.csv

      llm-d-benchmark runs export 20260131-1200 -o run.tar.gz
    """
    from ..store.export import write_export

    wanted = _filter(name, model, target, status, generator, since, until, label, simulated)
    with _open(directory, index) as runs:
        chosen = [runs.resolve(r) for r in run] if run else runs.runs(wanted, stages=True)
    if not chosen:
        raise StoreError(f"no such run under {directory}", advice="llm-d-benchmark runs list shows what there is")
    write_export(chosen, output)
    typer.echo(f"{len(chosen)} run{'s' * (len(chosen) > 1)} -> {output}")
    return 0


def _open(directory: Path, index: str | None, rebuild: bool = False) -> RunIndex:
    """The index, up to date with the folders."""
    from ..store.index import RunIndex

    runs = RunIndex(directory, index)

    def progress(done: int, total: int) -> None:
        if total > 500:
            typer.echo(f"indexed {done} of {total} runs", err=True)

    runs.rebuild(progress) if rebuild else runs.sync(progress)
    return runs


def _path(run: str, directory: Path, index: str | None) -> Path:
    if (Path(run) / "manifest.json").is_file():
        return Path(run)
    with _open(directory, index) as runs:
        return runs.resolve(run).path


def _filter(
    name: str | None,
    model: str | None,
    target: str | None,
    status: str | None,
    generator: str | None,
    since: str | None,
    until: str | None,
    label: list[str] | None,
    simulated: bool | None,
) -> RunFilter:
    from ..store.filter import RunFilter
    from .arguments import labels, moment

    return RunFilter(
        name,
        model,
        target,
        status,
        generator,
        moment("--since", since),
        moment("--until", until),
        simulated,
        labels(label or []),
    )


def _plain(run: IndexedRun) -> dict[str, Any]:
    stages = [
        {
            "index": s.index,
            "name": s.name,
            "load_generator": s.load_generator,
            "load": s.load,
            "seconds": s.seconds,
            "metrics": {k: {"value": v, "unit": unit} for k, (v, unit) in s.metrics.items()},
        }
        for s in run.stages
    ]
    known = {k: getattr(run, k) for k in run.__slots__ if k not in ("path", "stages")}
    return {"path": str(run.path), **known, "stages": stages}


def _table(runs: list[IndexedRun]) -> str:
    from rich.console import Console
    from rich.table import Table

    from ..report.format import count, duration, moment

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "status", "started", "took", "model", "target", "requests", "failed", "SLOs"):
        number = title in ("took", "requests", "failed")
        whole = title in ("run", "started")
        table.add_column(title, justify="right" if number else "left", overflow="fold", no_wrap=whole)
    for r in runs:
        table.add_row(
            r.run_id,
            r.status + (" (simulated)" if r.simulated else ""),
            moment(r.started),
            duration(max(0, r.ended - r.started) / 1e9),
            r.model or "",
            r.target,
            count(r.requests),
            count(r.failed),
            "" if r.slos == "none" else r.slos,
        )
    console = Console(width=max(100, shutil.get_terminal_size((120, 24)).columns), color_system=None)
    with console.capture() as text:
        console.print(table)
    return text.get().rstrip()
