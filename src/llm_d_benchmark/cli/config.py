"""``llm-d-benchmark config``: look at a configuration without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..config.layers import LoadedConfig
    from ..domain.events import Finding

HELP = "Check, show, migrate and start configuration files."
app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)

Files = Annotated[list[Path] | None, typer.Argument(help="Configuration files; later ones win.")]
Config = Annotated[
    list[Path] | None, typer.Option("--config", "-c", help="The same as an argument, as 'run' takes it.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Set one key, e.g. spec.benchmark.duration=30m; repeatable."),
]
Generator = Annotated[
    str | None, typer.Option("--load-generator", help="Only this load generator, as 'run' would pick it.")
]


@app.callback()
def group() -> None:
    """Check, show, migrate and start configuration files."""


def _load(
    files: list[Path] | None, config: list[Path] | None, sets: list[str] | None, generator: str | None
) -> LoadedConfig:
    from . import arguments as parse

    return parse.load([*(files or []), *(config or [])], sets=sets, load_generator=generator)


def _print_findings(findings: list[Finding]) -> None:
    from .findings import line

    for finding in findings:
        typer.echo(line(finding, "cannot run here" if finding.severity == "error" else None), err=True)


@app.command()
def validate(files: Files = None, config: Config = None, sets: Sets = None, load_generator: Generator = None) -> int:
    """Check configuration files, and say what of them a run could not carry out here."""
    from ..domain.events import Severity
    from ..runner.prepare import check_workloads
    from ..runner.run import impediments

    loaded = _load(files, config, sets, load_generator)
    found = impediments(loaded)
    found += check_workloads(loaded, read=all(f.severity is not Severity.ERROR for f in found))
    _print_findings([*loaded.warnings, *found])
    typer.echo(f"valid: {', '.join(map(str, [*(files or []), *(config or [])])) or 'the defaults'}")
    return 0


@app.command()
def show(
    files: Files = None,
    config: Config = None,
    sets: Sets = None,
    load_generator: Generator = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print values and origins as JSON.")] = False,
) -> int:
    """Print the resolved configuration with the origin of each value."""
    from ..config.render import render

    loaded = _load(files, config, sets, load_generator)
    _print_findings(list(loaded.warnings))
    if json_output:
        shown = {"config": loaded.config.to_dict(), "origins": dict(loaded.origins), "digest": loaded.digest}
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        typer.echo(render(loaded), nl=False)
    return 0


@app.command()
def schema(
    result: Annotated[bool, typer.Option("--result", help="The schema of result.json instead.")] = False,
) -> int:
    """Print the JSON Schema of the configuration (or of result.json)."""
    if result:
        from ..store.result_json import published_schema

        typer.echo(published_schema(), nl=False)
        return 0
    from ..config.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


@app.command()
def migrate(
    file: Annotated[Path, typer.Argument(help="A file in the v0.2 spelling.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of to stdout.")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", "-i", help="Rewrite the file itself.")] = False,
) -> int:
    """Rewrite a configuration of an older version; comments and order stay."""
    from ..config.migrate import migrate as migrate_text
    from ..config.source import read_file
    from ..domain.errors import ConfigError

    read_file(file)  # for its errors
    if in_place and output:
        raise ConfigError("give --in-place or --output, not both")
    text = migrate_text(file.read_bytes().decode("utf-8"), str(file))  # its line ends stay as they are
    target = file if in_place else output
    if target is None:
        typer.echo(text, nl=False)
    else:
        _write(target, text)
    return 0


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("benchmark.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> int:
    """Write a commented configuration to start from."""
    from ..config.starter import STARTER
    from ..domain.errors import ConfigError

    if file.exists() and not force:
        raise ConfigError(f"{file} exists already", advice="--force overwrites it")
    _write(file, STARTER)
    typer.echo(f"wrote {file}; next: llm-d-benchmark run -c {file}")
    return 0


def _write(path: Path, text: str) -> None:
    from ..domain.errors import ConfigError

    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
