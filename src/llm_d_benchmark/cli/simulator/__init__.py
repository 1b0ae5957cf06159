"""``llm-d-benchmark simulator``: a simulated deployment, to serve, to run through in virtual time, to calibrate."""

from __future__ import annotations

import typer

from .calibrate import calibrate
from .profiles import profiles
from .run import run
from .serve import serve

HELP = "A model of an inference server: serve it, run a benchmark in virtual time, calibrate it."
app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
app.command("run")(run)
app.command("serve")(serve)
app.command("profiles")(profiles)
app.command("calibrate")(calibrate)


@app.callback()
def group() -> None:
    """A model of an inference server: serve it, run a benchmark in virtual time, calibrate it."""
