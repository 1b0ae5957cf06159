"""The table of a live progress display (rich)."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .format import DASH, count, digits
from .tally import LAG_WARNING_MS, Tally


def live_table(tally: Tally) -> RenderableType:
    """``tally`` as it is now: a line of where the run is, a bar, and the counters."""
    if tally.stage < 0 or tally.phase != "benchmark":
        return Text(f"{tally.phase or 'starting'} ...", style="bold")
    where = Text.assemble(("stage ", "dim"), (tally.stage_text(), "bold"), f"  {tally.stage_name}  ")
    where.append(tally.progress_text(), style="dim")
    parts: list[RenderableType] = [where]
    if tally.fraction is not None:
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(total=1.0, completed=tally.fraction, width=60))
        parts.append(bar)
    parts.append(_counters(tally))
    if tally.errors:
        words = ", ".join(f"{count(n)} {name}" for name, n in sorted(tally.errors.items()))
        parts.append(Text(f"errors: {words}", style="red"))
    if tally.lag_ms > LAG_WARNING_MS:
        parts.append(Text(f"the client is {tally.lag_ms:.0f} ms late: it may be the bottleneck", style="bold yellow"))
    return Group(*parts)


def _counters(tally: Tally) -> Table:
    cells = {
        "sent": count(tally.sent),
        "ok": count(tally.succeeded),
        "failed": count(tally.failed),
        "in flight": count(tally.in_flight),
        "req/s": _known(tally.request_rate),
        "tok/s": _known(tally.token_rate),
        "TTFT p50": _known(tally.ttft_ms, " ms"),
    }
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    return table


def _known(value: float | None, unit: str = "") -> str:
    return DASH if value is None else f"{digits(value)}{unit}"
