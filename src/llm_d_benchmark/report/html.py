"""report.html: one self-contained file that opens without a network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..domain.result import Distribution, RunResult, StageResult
from . import agreement, diagnosis, judgement
from .api import ReportInput
from .figures import figures
from .format import duration, moment
from .numbers import Numbers
from .page import environment, plotly_base64, script_json
from .table import UNSURE, unsure_means
from .tables import LATENCIES, MORE_LATENCIES, HtmlTable, Tables
from .verdict import headline_stage, verdict


@dataclass(frozen=True, slots=True)
class Card:
    """One key number: a label, the number, and what is beside it."""

    label: str
    value: Markup
    beside: Markup

    @property
    def unsure(self) -> bool:
        """Some percentile on it is of too few requests for limits."""
        return 'class="unsure"' in self.value + self.beside


def render_html(source: ReportInput) -> str:
    """The whole page. It holds its own charts library, loads nothing, and its content security policy forbids to."""
    result = source.result
    n = Numbers(result)
    tables = Tables(result, n)
    headline = headline_stage(result)
    drawn = figures(source)
    context: dict[str, Any] = {
        "result": result,
        "n": n,
        "verdict": verdict(result, source.events),
        "headline": headline,
        "cards": _cards(result, n, headline[0]) if headline else [],
        "figures": drawn,
        "figures_json": script_json([figure.plot() for figure in drawn]),
        "plotly": plotly_base64() if drawn else "",
        "summary": tables.summary() if result.stages else None,
        "latencies": tables.latencies(LATENCIES),
        "more_latencies": _measured_or_said(tables, result),
        "requests": tables.requests(),
        "load": tables.load() if result.stages else None,
        "lengths": tables.lengths() if result.stages else None,
        "others": _others(result, n, tables),
        "claims": diagnosis.claims(result),
        "slos": judgement.slos(result, n),
        "agreement": agreement.sections(result, n),
        "not_compared": agreement.not_compared(result),
        "validity": _validity(result, n),
        "source": source,
        "about": _about(source),
        "started": moment(result.started),
        "took": duration((result.ended - result.started) / 1e9),
        "noted": _noted(result),
        "unsure_means": f"{UNSURE} {unsure_means(result)}",
    }
    return environment().get_template("report.html.j2").render(context)


def _cards(result: RunResult, n: Numbers, stage: StageResult) -> list[Card]:
    base = f"/stages/{list(result.stages).index(stage)}/metrics"
    cards = [
        _latency_card("TTFT", "ttft", base, stage, n),
        _latency_card("TPOT", "tpot", base, stage, n),
        _latency_card("E2E", "e2e", base, stage, n),
    ]
    for label, name, beside, what in (
        ("Output tokens/s", "output_tokens_per_second", "input_tokens_per_second", "in"),
        ("Requests/s", "requests_per_second", "concurrency", "in flight"),
        ("Goodput/s", "goodput", "goodput_fraction", "of requests"),
        ("Errors", "error_rate", "requests/failed", "failed"),
    ):
        side = Markup("{} {}").format(n.show(f"{base}/{beside}", symbol=name == "goodput"), what)
        cards.append(Card(label, n.show(f"{base}/{name}", symbol=name == "error_rate"), side))
    return cards


def _latency_card(label: str, name: str, base: str, stage: StageResult, n: Numbers) -> Card:
    if not isinstance(getattr(stage.metrics, name), Distribution):
        return Card(f"{label} p50", n.show(f"{base}/{name}"), Markup(""))
    unit = n.unit(f"{base}/{name}")
    shown = [
        n.show(at, n.scale([at], unit)) for at in (f"{base}/{name}/percentiles/p50", f"{base}/{name}/percentiles/p99")
    ]
    return Card(f"{label} p50", shown[0], Markup("p99 {}").format(shown[1]))


def _measured_or_said(tables: Tables, result: RunResult) -> list[HtmlTable]:
    """The lesser distributions that some stage has."""
    present = [
        metric
        for metric in MORE_LATENCIES
        if any(isinstance(getattr(s.metrics, metric.name), Distribution) for s in result.stages)
    ]
    return tables.latencies(present)


def _others(result: RunResult, n: Numbers, tables: Tables) -> list[HtmlTable]:
    found = [
        tables.models(),
        tables.resources(),
        tables.gpus(),
        judgement.scalars("Cost", "What the run says about cost.", "/cost", result.cost, n),
        judgement.scalars("Quality", "What the run says about the answers.", "/quality", result.quality, n),
    ]
    return [table for table in found if table is not None]


def _validity(result: RunResult, n: Numbers) -> list[HtmlTable]:
    limits = judgement.scalars("Limits", "What decides validity.", "/validity/limits", result.validity.limits, n)
    found = [judgement.workers(result, n), judgement.identities(result, n), judgement.steadiness(result, n), limits]
    return [table for table in found if table is not None]


def _about(source: ReportInput) -> list[tuple[str, str]]:
    result, target = source.result, source.result.target
    rows = [
        ("Run", result.run_id),
        ("Started", moment(result.started)),
        ("Ended", moment(result.ended)),
        ("Took", duration((result.ended - result.started) / 1e9)),
        ("Target", f"{target.type}: {target.url}"),
        ("Model", target.model or "unknown"),
        ("Server", target.server or "does not say"),
        ("Target fingerprint", target.fingerprint),
        ("Configuration digest", result.config_digest),
        ("llm-d-benchmark", result.tool_version),
        ("Result schema", result.schema_version),
    ]
    rows += [(f"Target {key}", _plain(value)) for key, value in target.info.items()]
    return rows + [(f"Client {key}", _plain(value)) for key, value in source.host.items()]


def _noted(result: RunResult) -> str:
    """How many findings want attention."""
    counts = [(sum(f.severity == kind for f in result.findings), kind) for kind in ("error", "warning")]
    return ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for n, kind in counts if n)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
