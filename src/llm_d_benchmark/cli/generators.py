"""``llm-d-benchmark generators``: the load generators of this installation."""

from __future__ import annotations

import typer

app = typer.Typer(help="Load generators: what is there.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Load generators: what is there."""


@app.command("list")
def list_generators() -> None:
    """List the load generators that can be named in spec.benchmark.load_generators."""
    from ..loadgen.registry import available

    for name in available():
        typer.echo(name)
