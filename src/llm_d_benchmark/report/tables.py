"""The tables of the HTML report, built from pointers into the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..domain.result import PERCENTILES, Distribution, Measured, RequestCounts, RunResult, StageResult
from .numbers import Numbers, pointer_part
from .table import UNSURE, unsure_means

Html = str | Markup
Rows = list[list[Html]]


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """One table: the first ``labels`` columns are text that names a row; ``words``: the last one holds sentences."""

    title: str
    caption: str
    header: Sequence[Html]
    rows: Sequence[Sequence[Html]]
    labels: int = 1
    words: bool = False


@dataclass(frozen=True, slots=True)
class LatencyMetric:
    """A distribution of the result with its definition in a sentence."""

    name: str
    title: str
    meaning: str


LATENCIES: tuple[LatencyMetric, ...] = (
    LatencyMetric("ttft", "Time to first token (TTFT)", "From the first byte sent to the first chunk with content."),
    LatencyMetric("tpot", "Time per output token (TPOT)", "Per request: (E2E − TTFT) / (output tokens − 1)."),
    LatencyMetric("itl", "Inter-token latency (ITL)", "Gaps between consecutive content chunks, undivided."),
    LatencyMetric("e2e", "End to end (E2E)", "From the first byte sent to the last chunk with content."),
)
MORE_LATENCIES: tuple[LatencyMetric, ...] = (
    LatencyMetric("ntpot", "Normalised time per output token (NTPOT)", "Per request: E2E / output tokens."),
    LatencyMetric("itl_per_token", "Inter-token latency per token", "Chunk gaps divided by the tokens of the chunk."),
    LatencyMetric("ttft_scheduled", "TTFT from the schedule", "From the intended start: no coordinated omission."),
    LatencyMetric("e2e_scheduled", "E2E from the schedule", "From the intended start: no coordinated omission."),
    LatencyMetric("connect", "Connection set-up", "TCP and TLS; not part of TTFT."),
    LatencyMetric("schedule_delay", "Schedule delay", "How late the client sent requests that were free to go."),
    LatencyMetric("cap_wait", "Wait for the concurrency cap", "How long the cap held requests back."),
)

_SUMMARY: tuple[tuple[str, str], ...] = (
    ("Requests/s", "requests_per_second"),
    ("Output tokens/s", "output_tokens_per_second"),
    ("TTFT p50", "ttft/percentiles/p50"),
    ("TTFT p99", "ttft/percentiles/p99"),
    ("TPOT p50", "tpot/percentiles/p50"),
    ("ITL p99", "itl/percentiles/p99"),
    ("E2E p50", "e2e/percentiles/p50"),
    ("E2E p99", "e2e/percentiles/p99"),
    ("Errors", "error_rate"),
    ("Goodput/s", "goodput"),
    ("Goodput", "goodput_fraction"),
)
_LOAD: tuple[tuple[str, str], ...] = (
    ("Rate asked", "requested_rate"),
    ("Rate sent", "achieved_rate"),
    ("CV of sent gaps", "sent_gap_cv"),
    ("Concurrency (mean)", "concurrency"),
    ("Concurrency (max)", "concurrency_max"),
    ("Input tokens/s", "input_tokens_per_second"),
    ("All tokens/s", "total_tokens_per_second"),
    ("Batches/s", "batches_per_second"),
    ("Prefix hits", "prefix_hit_rate"),
)
_LENGTHS: tuple[tuple[str, str], ...] = (
    ("Input asked", "input_length/asked"),
    ("Input got", "input_length/achieved"),
    ("Deviation", "input_length/deviation"),
    ("Output asked", "output_length/asked"),
    ("Output got", "output_length/achieved"),
    ("Deviation", "output_length/deviation"),
)
_NONE = Markup('<span class="none">0</span>')
_COUNTS = ("sent", "succeeded", "failed", "cancelled")


class Tables:
    """Every table of one result."""

    def __init__(self, result: RunResult, numbers: Numbers) -> None:
        self._result = result
        self._n = numbers
        self._several = len({s.load_generator for s in result.stages}) > 1

    def _name(self, stage: StageResult) -> str:
        return f"{stage.name} ({stage.load_generator})" if self._several else stage.name

    def _at(self, position: int) -> str:
        return f"/stages/{position}/metrics"

    def summary(self) -> HtmlTable:
        rows = self._metric_rows(_SUMMARY, lambda s: [self._name(s), s.label])
        caption = f"Measured inside each stage's window. {UNSURE} {unsure_means(self._result)}."
        return HtmlTable("Stages", caption, ["Stage", "Load", *self._heads(_SUMMARY)], rows, 2)

    def load(self) -> HtmlTable:
        rows = self._metric_rows(_LOAD, lambda s: [self._name(s), s.label])
        header = ["Stage", "Load", *self._heads(_LOAD)]
        return HtmlTable("Load as asked and as sent", "Means over each stage's window.", header, rows, 2)

    def lengths(self) -> HtmlTable:
        rows = self._metric_rows(_LENGTHS, lambda s: [self._name(s)])
        for stage, row in zip(self._result.stages, rows, strict=True):
            sources = (stage.metrics.input_length.source, stage.metrics.output_length.source)
            row.append(" / ".join(s or "unknown" for s in sources))
        return HtmlTable(
            "Lengths asked and got",
            "Mean tokens of successful requests; counted by: input / output.",
            ["Stage", *self._heads(_LENGTHS), "Counted by"],
            rows,
        )

    def models(self) -> HtmlTable | None:
        """One row per stage and model, where some stage asked more than one."""
        if all(len(s.by_model) < 2 for s in self._result.stages):
            return None
        rows: Rows = []
        for i, stage in enumerate(self._result.stages):
            for model in stage.by_model:
                base = f"/stages/{i}/by_model/{pointer_part(model)}"
                rows.append([self._name(stage), model, *(self._n.show(f"{base}/{p}") for _, p in _SUMMARY)])
        header = ["Stage", "Model", *(title for title, _ in _SUMMARY)]
        return HtmlTable("Models", "The same metrics for each model asked for.", header, rows, 2)

    def _metric_rows(self, columns: Sequence[tuple[str, str]], lead: Callable[[StageResult], list[Html]]) -> Rows:
        rows: Rows = [list(lead(stage)) for stage in self._result.stages]
        for _, path in columns:
            pointers = [f"{self._at(i)}/{path}" for i in range(len(rows))]
            scale = self._n.scale(pointers, self._unit(path))
            for row, pointer in zip(rows, pointers, strict=True):
                row.append(self._n.show(pointer, scale, symbol=False))
        return rows

    def _heads(self, columns: Sequence[tuple[str, str]]) -> list[Html]:
        heads: list[Html] = []
        for title, path in columns:
            pointers = [f"{self._at(i)}/{path}" for i in range(len(self._result.stages))]
            symbol = self._n.scale(pointers, self._unit(path)).symbol
            shown = symbol if symbol in ("µs", "ms", "s", "%") else ""
            heads.append(Markup('{} <span class="unit">{}</span>').format(title, shown) if shown else title)
        return heads

    def _unit(self, path: str) -> str | None:
        """Percentiles carry no unit of their own; the distribution has it."""
        if "/percentiles/" not in path or not self._result.stages:
            return None
        return self._n.unit(f"{self._at(0)}/{path.split('/')[0]}")

    def latencies(self, metrics: Sequence[LatencyMetric]) -> list[HtmlTable]:
        """One table per distribution; a distribution absent everywhere is one row of dashes with the reason."""
        return [self._latency(metric) for metric in metrics] if self._result.stages else []

    def _latency(self, metric: LatencyMetric) -> HtmlTable:
        names = ["mean", "sd", "min", *(f"percentiles/{key}" for key, _ in PERCENTILES), "max"]
        bases = [f"{self._at(i)}/{metric.name}" for i in range(len(self._result.stages))]
        scale = self._n.scale([f"{b}/percentiles/p50" for b in bases], self._n.unit(bases[0]))
        rows: Rows = []
        for stage, base in zip(self._result.stages, bases, strict=True):
            if isinstance(getattr(stage.metrics, metric.name), Distribution):
                cells: list[Html] = [self._n.show(f"{base}/count")]
                cells += [self._n.show(f"{base}/{name}", scale, symbol=False, limits=True) for name in names]
            else:
                cells = [self._n.show(base)] + [""] * len(names)
            rows.append([self._name(stage), *cells])
        unit = Markup('<span class="unit">{}</span>').format(scale.symbol)
        header: list[Html] = ["Stage", "Count", Markup("Mean {}").format(unit), "SD", "Min"]
        header += [key for key, _ in PERCENTILES] + ["Max"]
        return HtmlTable(metric.title, metric.meaning, header, rows)

    def requests(self) -> HtmlTable:
        stages = self._result.stages
        classes = sorted({name for s in stages for name in s.metrics.requests_total.errors} | set(self._errors()))
        rows: Rows = []
        for i, stage in enumerate(stages):
            for part, field in (("window", "requests"), ("whole stage", "requests_total")):
                counts = getattr(stage.metrics, field)
                rows.append([self._name(stage), part, *self._count_cells(f"{self._at(i)}/{field}", counts, classes)])
        rows.append(["Run", "all", *self._count_cells("/requests", self._result.requests, classes)])
        header: list[Html] = ["Stage", "Part", *(c.capitalize() for c in _COUNTS), *classes]
        return HtmlTable("Requests and errors", "Sent = succeeded + failed + cancelled.", header, rows, 2)

    def _errors(self) -> list[str]:
        return list(self._result.requests.errors)

    def _count_cells(self, base: str, counts: RequestCounts, classes: Sequence[str]) -> list[Html]:
        cells: list[Html] = [self._n.show(f"{base}/{name}") for name in _COUNTS]
        return cells + [self._n.show(f"{base}/errors/{c}") if c in counts.errors else _NONE for c in classes]

    def resources(self) -> HtmlTable | None:
        stages = self._result.stages
        names = sorted({name for s in stages for name in s.resources})
        if not names:
            return None
        seen = [n for n in names if any(isinstance(s.resources.get(n), Measured) for s in stages)]
        sources = {name: source for s in stages for name, source in s.resource_sources.items()}
        rows: Rows = [
            [
                name.replace("_", " "),
                *(
                    self._n.show(f"/stages/{i}/resources/{name}", symbol=True) if name in s.resources else ""
                    for i, s in enumerate(stages)
                ),
                sources.get(name, ""),
            ]
            for name in seen
        ]
        caption = "Over each window, by the server's own metrics and its host's. Not seen: "
        caption += ", ".join(n.replace("_", " ") for n in names if n not in seen) or "nothing"
        header: list[Html] = ["Resource", *(self._name(s) for s in stages), "Source"]
        return HtmlTable("Resources", f"{caption}.", header, rows, words=True)

    def gpus(self) -> HtmlTable | None:
        """Each GPU by itself, where there are several."""
        rows: Rows = [
            [
                self._name(stage),
                f"{gpu.gpu} {gpu.model or ''}".rstrip(),
                *(
                    self._n.show(f"/stages/{i}/gpus/{j}/{name}", symbol=True)
                    for name in ("utilization", "memory_usage", "power")
                ),
            ]
            for i, stage in enumerate(self._result.stages)
            for j, gpu in enumerate(stage.gpus)
        ]
        header: list[Html] = ["Stage", "GPU", "Utilisation", "Memory", "Power"]
        return (
            HtmlTable("GPUs", "Each over each window; the resources are their means and sums.", header, rows, 2)
            if rows
            else None
        )
