"""``llm-d-benchmark doctor``: is everything in order for a run?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.layers import LoadedConfig
    from ..config.target import TargetConfig
    from ..domain.events import Finding

MARKS = {"info": ("ok", "green"), "warning": ("warn", "yellow"), "error": ("ERROR", "red")}


def doctor(
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration file; repeat to lay one over another, later wins."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Check the OpenAI-compatible server at this URL.")] = None,
    model: Annotated[str | None, typer.Option(help="Model name; default: what the server lists.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Check a target of this type; one that has to be started is, and stopped again.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON on stdout.")] = False,
) -> int:
    """Check the server and this machine, and say what to do about what is wrong.

    Exit code 0: nothing is an error; 5: something is.

    Examples:

      llm-d-benchmark doctor --url http://localhost:8000

      llm-d-benchmark doctor --target local
    """
    import asyncio
    import json

    from ..domain.errors import ExitCode
    from ..loadgen.native.compiled import library
    from ..target.doctor import diagnose
    from . import arguments

    loaded = arguments.load(config, overrides=arguments.target_overrides(url, model, target))
    seen = [*asyncio.run(diagnose(loaded.config, _target(loaded))), *_prometheus(loaded), library.check()]
    findings = [*loaded.warnings, *loaded.placed(seen)]
    wrong = any(f.severity == "error" for f in findings)
    if json_output:
        typer.echo(json.dumps({"ok": not wrong, "findings": [f.to_dict() for f in findings]}, indent=2))
    else:
        show(findings)
    return int(ExitCode.TARGET_FAILED if wrong else ExitCode.OK)


def _target(loaded: LoadedConfig) -> TargetConfig | None:
    from ..config.resolve import resolve_target

    spec = loaded.config.spec
    named = spec.target is not None or spec.cluster is not None or bool(spec.models)
    return resolve_target(loaded.config) if named else None


def _prometheus(loaded: LoadedConfig) -> list[Finding]:
    """What is wrong with the configuration of its collector, which a run says before it starts anything."""
    from ..collect.run import prometheus_of
    from ..domain.errors import ConfigError
    from ..domain.events import Finding, Severity

    try:
        prometheus_of(loaded.config)
    except ConfigError as error:
        return [Finding("prometheus", Severity.ERROR, error.message, error.advice)]
    return []


def show(findings: Sequence[Finding]) -> None:
    """A table of marks, what was found and what to do about it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for finding in findings:
        mark, color = MARKS[str(finding.severity)]
        text = Text(finding.message)
        for line in (finding.advice or "").splitlines():
            text.append(f"\n-> {line}", style="bold")
        table.add_row(Text(mark, style=color), finding.code, text)
    console = Console()
    console.print(table)
    counts = [sum(f.severity == kind for f in findings) for kind in ("error", "warning")]
    console.print(f"errors: {counts[0]}, warnings: {counts[1]}", highlight=False)
