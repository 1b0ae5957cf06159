"""The summary of a run as Markdown: short enough for a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain.result import Measured, RunResult, SloResult
from . import agreement, diagnosis
from .api import ReportInput
from .format import count, duration, moment, quantity
from .table import UNSURE, stage_table, unsure_means
from .verdict import verdict

_SIGNS = {"good": "✅", "warning": "⚠️", "bad": "❌"}
_SLO_WORDS = {"pass": "met", "fail": "**missed**", "inconclusive": "inconclusive"}


def render_markdown(source: ReportInput) -> str:
    """Verdict, stages, SLOs, findings and how to reproduce the run."""
    result = source.result
    said = verdict(result, source.events)
    lines = [f"## {_SIGNS[said.tone]} {said.word}: {_escape(result.name)}", "", said.sentence, ""]
    for reason in said.reasons:
        lines.append(f"- {_escape(reason.message)}" + (f" **→ {_escape(reason.remedy)}**" if reason.remedy else ""))
    lines += [""] if said.reasons else []
    lines += [_about(result), ""]
    lines += _stages(result)
    lines += _agreement(result)
    lines += _slos(result.slos)
    said_of_it = diagnosis.lines(result)
    lines += [f"- Diagnosis: {_escape(line)}" for line in said_of_it] + ([""] if said_of_it else [])
    lines += _findings(source)
    if source.command:
        fence = "`" * (3 if "```" not in source.command else 5)
        lines += [
            "<details><summary>Reproduce</summary>",
            "",
            f"{fence}sh",
            source.command,
            fence,
            "",
            "</details>",
            "",
        ]
    return "\n".join(lines)


def _about(result: RunResult) -> str:
    requests = result.requests
    simulated = " (simulated)" if result.simulated else ""
    took = duration((result.ended - result.started) / 1e9)
    target = f"{_escape(result.target.model or 'unknown model')} at {_escape(result.target.url)}"
    return (
        f"`{result.run_id}`{simulated}: {target}, "
        f"{moment(result.started)}, {took}; {count(requests.succeeded)} of {count(requests.sent)} requests succeeded, "
        f"{count(requests.failed)} failed, {count(requests.cancelled)} cancelled."
    )


def _stages(result: RunResult) -> list[str]:
    if not result.stages:
        return []
    table = stage_table(result)
    lines = [_row(table.header), _row(["---", "---", *["---:"] * (len(table.header) - 2)])]
    lines += [_row([_escape(cell) for cell in row]) for row in table.rows]
    lines.append("")
    if table.unsure:
        lines += [f"\\{UNSURE} {unsure_means(result)}.", ""]
    lines += [f"- {_escape(line)}" for line in table.absent] + ([""] if table.absent else [])
    for sweep in result.saturations or ([result.saturation] if result.saturation else []):
        name = next((s.name for s in result.stages if s.index == sweep.knee_stage), None)
        knee = f" Knee: stage {_escape(name)}." if name else ""
        of = f" of {sweep.load_generator}" if len(result.saturations) > 1 else ""
        lines += [f"Saturation{of}: {_escape(sweep.reason.rstrip('.'))}.{knee}", ""]
    return lines


def _agreement(result: RunResult) -> list[str]:
    """Generators side by side, and each difference beyond noise with its cause."""
    lines: list[str] = []
    for group in result.agreement:
        lines += [f"### {_escape(agreement.heading(result, group))}", ""]
        if group.metrics:
            header, rows = agreement.text_rows(result, group)
            lines += [_row([_escape(h) for h in header]), _row(["---", *["---:"] * (len(header) - 2), "---"])]
            lines += [_row([_escape(cell) for cell in row]) for row in rows]
            lines += ["", agreement.sentence(result, group), ""]
        said = [*agreement.differences(result, group), *agreement.own_lines(result, group)]
        lines += [f"- {_escape(line)}" for line in said] + ([""] if said else [])
    nothing = agreement.not_compared(result)
    return [*lines, nothing, ""] if nothing else lines


def _slos(slos: Sequence[SloResult]) -> list[str]:
    if not slos:
        return []
    lines = [_row(["SLO", "target", "measured", "verdict"]), _row(["---"] * 4)]
    for slo in slos:
        value = (
            quantity(slo.value.value, slo.value.unit) if isinstance(slo.value, Measured) else f"— ({slo.value.absent})"
        )
        lines.append(_row([_escape(slo.name), _escape(slo.target), _escape(value), _SLO_WORDS[slo.verdict]]))
    return [*lines, ""]


def _findings(source: ReportInput) -> list[str]:
    lines = []
    for finding in source.result.findings:
        if finding.severity != "info":
            advice = f" → {_escape(finding.advice)}" if finding.advice else ""
            lines.append(f"- **{finding.severity}**: {_escape(finding.message)}{advice}")
    return [*lines, ""] if lines else []


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
