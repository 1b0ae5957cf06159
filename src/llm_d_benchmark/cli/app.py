"""The entry point: which commands there are, and how an error becomes a message and an exit code."""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from ..domain.errors import BenchmarkError, ExitCode
from . import (
    analyze,
    capacity,
    compare,
    config,
    doctor,
    explore,
    generators,
    import_,
    merge,
    recommend,
    regress,
    report,
    run,
    runs,
    simulator,
    trend,
)

MANY: Mapping[str, frozenset[str]] = MappingProxyType(
    {"regress": frozenset({"--baseline", "--test"}), "capacity": frozenset({"--runs"})}
)
"""Options that take several values, by command."""
app = typer.Typer(
    name="llm-d-benchmark",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure LLM inference servers: load, metrics, verdict, report.\n\n"
    "Start with:  llm-d-benchmark run --target local   (a real small model on this machine)\n\n"
    "or:          llm-d-benchmark run --url http://HOST:8000 --model NAME\n\n"
    "Exit codes: 0 ok, 2 configuration or usage, 3 SLO failed, 4 regression, 5 target failed, "
    "6 generator failed or no data, 7 invalid (client-limited, or other lengths than asked for), 130 interrupted.",
)
app.command("run")(run.run)
app.command("analyze")(analyze.analyze)
app.command("report")(report.report)
app.command("merge")(merge.merge)
app.command("compare")(compare.compare)
app.command("regress")(regress.regress)
app.command("trend")(trend.trend)
app.command("explore")(explore.explore)
app.command("recommend")(recommend.recommend)
app.command("import")(import_.import_)
app.command("doctor")(doctor.doctor)
app.add_typer(capacity.app, name="capacity")
app.add_typer(config.app, name="config")
app.add_typer(generators.app, name="generators")
app.add_typer(runs.app, name="runs")
app.add_typer(simulator.app, name="simulator")


def _version(value: bool) -> None:
    if value:
        from .. import __version__

        typer.echo(f"llm-d-benchmark {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def arguments(argv: Sequence[str]) -> list[str]:
    """The command line with ``run`` put in where it starts with an option of it, as the documented Job does."""
    if argv and argv[0].startswith("-") and argv[0] not in ("--help", "-h", "--version"):
        return ["run", *argv]
    return spread(argv, MANY.get(argv[0] if argv else "", frozenset()))


def spread(argv: Sequence[str], many: Collection[str]) -> list[str]:
    """``--runs A B`` as ``--runs A --runs B``, for the options in ``many``."""
    found: list[str] = []
    option: str | None = None
    for word in argv:
        if word.startswith("-"):
            option = word if word in many else None
            found += [] if option else [word]
        else:
            found += [word] if option is None else [option, word]
    return found


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    # What importing allocates lives until the end: collecting over it again and again is a tenth of a second each way.
    gc.disable()
    try:
        code = app(arguments(sys.argv[1:] if argv is None else argv), standalone_mode=False)
    except BenchmarkError as error:
        fail(error)
        code = error.exit_code
    except typer.Abort:
        code = ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except TyperException as error:
        typer.echo(f"error: {error.format_message()}\n  -> see llm-d-benchmark --help", err=True)
        code = ExitCode.USAGE
    gc.freeze()
    sys.exit(int(code or 0))


def fail(error: BenchmarkError) -> None:
    """Print an error and its advice on stderr."""
    typer.secho(f"error: {error.message}", fg=typer.colors.RED, err=True)
    if error.advice:
        for line in error.advice.splitlines():
            typer.echo(f"  -> {line}", err=True)
