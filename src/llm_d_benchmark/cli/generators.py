"""``llm-d-benchmark generators``: which load generators there are, and their environments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..loadgen.external.generator import ExternalLoadGenerator

app = typer.Typer(
    help="Load generators: what is there, install, check, remove.", no_args_is_help=True, rich_markup_mode=None
)
SHOWN_LINE = 110


@app.callback()
def group() -> None:
    """Load generators: what is there, install, check, remove."""


@app.command("list")
def list_generators(
    json_output: Annotated[bool, typer.Option("--json", help="Print the list as JSON on stdout.")] = False,
) -> None:
    """List the load generators that can be named in spec.benchmark.load_generators."""
    import json

    from ..loadgen.registry import available

    rows = [_row(name) for name in available()]
    for broken in (r for r in rows if "problem" in r):
        typer.echo(f"warning: {broken['problem']}", err=True)
    if json_output:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = [("NAME", "KIND", "VERSION", "PYTHON", "WHERE")]
    table += [(r["name"], r["kind"], r["version"] or _without(r), r["python"] or "", r["where"] or "") for r in rows]
    widths = [max(len(row[i]) for row in table) for i in range(4)]
    for row in table:
        typer.echo("  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]).rstrip())


def _without(row: dict[str, Any]) -> str:
    return "cannot be loaded" if "problem" in row else "not installed"


def _row(name: str) -> dict[str, Any]:
    from ..domain.errors import GeneratorError
    from ..domain.version import VERSION
    from ..loadgen.external.environments import installed, locate
    from ..loadgen.external.generator import ExternalLoadGenerator
    from ..loadgen.registry import load_generator

    try:
        generator = load_generator(name)
    except GeneratorError as error:
        problem = f"{error.message}; {error.advice}"
        return {"name": name, "kind": "custom", "version": None, "python": None, "where": None, "problem": problem}
    if not isinstance(generator, ExternalLoadGenerator):
        own = type(generator).__module__.startswith("llm_d_benchmark.")
        return {
            "name": name, "kind": "built-in" if own else "custom", "version": VERSION if own else "installed",
            "python": None, "where": None,
        }  # fmt: skip
    environment = locate(name, generator.requirement)
    remembered = installed(name)
    return {
        "name": name,
        "kind": "external",
        "version": None if environment is None else environment.version,
        "python": generator.requirement.python,
        "where": None if environment is None else str(environment.checkout or environment.bin.parent),
        "outdated": remembered is not None and remembered.own and remembered.packages != generator.requirement.packages,
    }


@app.command("install")
def install(
    names: Annotated[list[str], typer.Argument(help="Load generators, e.g. guidellm inference-perf.")],
    light: Annotated[bool, typer.Option("--light", help="The smaller form, where there is one (guidellm).")] = False,
    path: Annotated[
        str | None,
        typer.Option(help="An environment that has it already; of fmperf a checkout, or a git URL to clone."),
    ] = None,
) -> None:
    """Install load generators, each into an environment of its own in the cache (LLM_D_BENCHMARK_CACHE).

    Examples:

      llm-d-benchmark generators install guidellm --light

      llm-d-benchmark generators install fmperf --path ~/src/fmperf
    """
    from ..loadgen.external import environments

    tools = [_external(name) for name in names]
    for tool in tools:
        typer.echo(f"{tool.name}: installing", err=True)
        found = environments.install(tool.name, tool.requirement, light=light, source=path, progress=_progress)
        typer.echo(f"{tool.name} {found.version} in {found.checkout or Path(found.python).parent.parent}")


@app.command("check")
def check(
    names: Annotated[list[str], typer.Argument(help="Load generators to try.")],
    environment: Annotated[
        str | None, typer.Option(help="Use this environment or checkout instead of the installed one.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON on stdout.")] = False,
) -> int:
    """Put ten seconds of real load on a simulated server with each, and look at the result.

    Exit code 0: all work; 6: one does not.
    """
    import asyncio
    import json

    from ..domain.errors import BenchmarkError, ExitCode
    from ..loadgen.registry import load_generator
    from ..runner.smoke import Smoke, smoke

    outcomes: list[Smoke] = []
    for name in names:
        load_generator(name)  # an unknown name is a mistake of the command, not a failed check
        typer.echo(f"{name}: checking ...", err=True)
        try:
            found = asyncio.run(smoke(name, {"environment": environment} if environment else {}))
        except BenchmarkError as error:
            advice = [error.advice] if error.advice else []
            found = Smoke(name, False, (error.message, *advice))
        outcomes.append(found)
        if not json_output:
            _show(found)
    if json_output:
        typer.echo(json.dumps([o.to_dict() for o in outcomes], indent=2))
    return int(ExitCode.OK if all(o.ok for o in outcomes) else ExitCode.GENERATOR_FAILED)


@app.command("remove")
def remove(names: Annotated[list[str], typer.Argument(help="Load generators to remove.")]) -> None:
    """Remove the environments of load generators; one that was given by path is only forgotten."""
    from ..loadgen.external import environments

    for name in names:
        tool = _external(name)
        there = environments.remove(tool.name)
        typer.echo(f"{tool.name}: removed" if there else f"{tool.name}: was not installed")


def _external(name: str) -> ExternalLoadGenerator:
    """The external tool of that name.

    Raises:
        ConfigError: there is none, or it needs no installation.
    """
    from ..domain.errors import ConfigError
    from ..loadgen.external.generator import ExternalLoadGenerator
    from ..loadgen.registry import load_generator

    generator = load_generator(name)
    if not isinstance(generator, ExternalLoadGenerator):
        raise ConfigError(f"load generator '{name}' needs no installation", advice="llm-d-benchmark generators list")
    return generator


def _progress(line: str) -> None:
    if line.strip():
        typer.echo(f"  {line[:SHOWN_LINE]}", err=True)


def _show(found: Any) -> None:
    version = f" {found.version}" if found.version else ""
    figures = found.figures
    parts = [f"{figures['requests']:.0f} requests"] if "requests" in figures else []
    parts += [f"{n} {figures[f'{n}_p50_s'] * 1e3:.3g} ms" for n in ("ttft", "tpot", "e2e") if f"{n}_p50_s" in figures]
    color = typer.colors.GREEN if found.ok else typer.colors.RED
    typer.secho(f"{found.generator}{version}: {'ok' if found.ok else 'FAILED'}", fg=color, nl=False)
    typer.echo(f"  {', '.join(parts)} (p50)" if parts else "")
    for problem in found.problems:
        for line in problem.splitlines():
            typer.echo(f"  {line}")
