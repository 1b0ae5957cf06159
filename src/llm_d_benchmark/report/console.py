"""The summary of a run on a terminal."""

from __future__ import annotations

import io

from rich.box import Box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..domain.result import Measured, RunResult
from . import agreement, diagnosis
from .format import count, duration, quantity
from .table import COLUMNS, UNSURE, StageTable, stage_table, unsure_means
from .verdict import Verdict, verdict

_GAP = "  "
_BOX = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
"""Columns two spaces apart, and a rule under the header."""

_STYLE = {"good": "bold green", "warning": "bold yellow", "bad": "bold red"}


def render_summary(result: RunResult, *, width: int = 100, color: bool = False) -> str:
    """The verdict, the stages and the SLOs of a run as text.

    Args:
        width: columns of the terminal; columns of lesser weight are left out until the table fits (80 always does).
        color: write ANSI colours; without, the text has no escape sequences.
    """
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        soft_wrap=False,
    )
    said = verdict(result)
    _head(console, result)
    table = _fitting(result, width)
    if result.stages:
        console.print(_rich_table(table))
        _notes(console, result, table)
    _agreement(console, result)
    _slos(console, result)
    for line in diagnosis.lines(result):
        console.print(Text(f"diagnosis: {line}"))
    _verdict(console, said)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _head(console: Console, result: RunResult) -> None:
    requests = result.requests
    parts = [f"{count(requests.succeeded)} of {count(requests.sent)} requests succeeded"]
    parts += [f"{count(requests.failed)} failed"] if requests.failed else []
    parts += [f"{count(requests.cancelled)} cancelled"] if requests.cancelled else []
    seconds = (result.ended - result.started) / 1e9
    simulated = " (simulated)" if result.simulated else ""
    console.print(Text(f"{result.run_id}{simulated}", style="bold"))
    console.print(Text(f"{result.target.model or 'unknown model'} at {result.target.url}"))
    console.print(Text(f"{', '.join(parts)} in {duration(seconds)}"))


def _fitting(result: RunResult, width: int) -> StageTable:
    """The table with as many columns as fit."""
    for rank in sorted({c.rank for c in COLUMNS}, reverse=True):
        table = stage_table(result, drop_above=rank)
        if _width(table) <= width:
            return table
    return stage_table(result, drop_above=0)


def _width(table: StageTable) -> int:
    lines = [[*_two_lines(title), *(row[i] for row in table.rows)] for i, title in enumerate(table.header)]
    return sum(max(len(text) for text in column) for column in lines) + len(_GAP) * (len(lines) - 1)


def _two_lines(title: str) -> list[str]:
    """A heading over two lines: ``TTFT`` and ``p50 ms``."""
    first, _, rest = title.partition(" ")
    return [first, rest] if rest else ["", first]


def _rich_table(table: StageTable) -> Table:
    shown = Table(box=_BOX, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for i, title in enumerate(table.header):
        shown.add_column("\n".join(_two_lines(title)), justify="left" if i < 2 else "right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*(escape(cell) for cell in row))
    return shown


def _notes(console: Console, result: RunResult, table: StageTable) -> None:
    if table.unsure:
        console.print(f"{UNSURE} {unsure_means(result)}", style="dim")
    for line in table.absent:
        if not line.startswith("goodput"):
            console.print(Text(line, style="dim"))
    for sweep in result.saturations or ([result.saturation] if result.saturation else []):
        knee = next((s.name for s in result.stages if s.index == sweep.knee_stage), None)
        of = f" of {sweep.load_generator}" if len(result.saturations) > 1 else ""
        console.print(Text(f"saturation{of}: {sweep.reason}{f' (stage {knee})' if knee else ''}"))


def _agreement(console: Console, result: RunResult) -> None:
    """Generators side by side, and each difference with its cause; of one alone, that its own figures are others."""
    for group in result.agreement:
        if not group.metrics:
            what = agreement.heading(result, group)
            console.print(Text(f"{what}: {len(group.own_figures)} are not what its requests give (see the report)"))
            continue
        console.print(Text(f"agreement: {agreement.heading(result, group)}", style="bold"))
        header, rows = agreement.text_rows(result, group)
        shown = Table(box=_BOX, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        for i, title in enumerate(header):
            words = i in (0, len(header) - 1)
            shown.add_column(escape(title), justify="left" if words else "right", no_wrap=words)
        for row in rows:
            shown.add_row(*(escape(cell) for cell in row))
        console.print(shown)
        console.print(Text(agreement.sentence(result, group)))
        for line in [*agreement.differences(result, group), *agreement.own_lines(result, group)]:
            console.print(Text(f"  - {line}"))
    nothing = agreement.not_compared(result)
    if nothing:
        console.print(Text(nothing, style="dim"))


def _slos(console: Console, result: RunResult) -> None:
    words = {"pass": ("met", "green"), "fail": ("MISSED", "bold red"), "inconclusive": ("inconclusive", "yellow")}
    for slo in result.slos:
        word, style = words[slo.verdict]
        value = quantity(slo.value.value, slo.value.unit) if isinstance(slo.value, Measured) else slo.value.absent
        console.print(Text.assemble("SLO ", f"{slo.name} {slo.target}: ", (word, style), f" ({value})"))


def _verdict(console: Console, said: Verdict) -> None:
    console.print(Text.assemble((said.word, _STYLE[said.tone]), f"  {said.sentence}"))
    style = "red" if said.tone == "bad" else ""
    for reason in said.reasons:
        where = "" if reason.stage is None else f" (stage {reason.stage})"
        console.print(Text(f"  - {reason.message}{where}", style=style))
        if reason.remedy:
            console.print(Text(f"    -> {reason.remedy}"))
