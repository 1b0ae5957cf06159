"""Metrics of one stage, or of one model within it. Definitions: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..domain.latencies import met, per_request, unseen
from ..domain.records import MISSING
from ..domain.result import Absent, Distribution, Lengths, Measured, Metrics, RequestCounts, Scalar
from .gaps import GapCounts
from .gather import BoolArray, StageData, Table
from .percentiles import FloatArray, distribution
from .windows import StageWindow

NO_STREAM = "not measurable without streaming"
NONE_OK = "no request that was sent inside the window succeeded"
CLOSED = "a closed loop has no schedule"
EMPTY = "the measured window is empty"


@dataclass(frozen=True, slots=True)
class View:
    """What a set of metrics is about: a stage, and the requests and gaps of it that count.

    Attributes:
        whole: the stage, and not one model of several.
        sent: the requests sent inside the window.
        ok: those of them that succeeded; only these enter latency metrics.
    """

    window: StageWindow
    whole: bool
    table: Table
    sent: Table
    ok: Table
    gaps: GapCounts
    gaps_per_token: GapCounts
    goodput: Mapping[str, float]


def view(data: StageData, goodput: Mapping[str, float], model: str | None = None) -> View:
    """The whole stage, or one model within it."""
    w = data.window
    table = data.table if model is None else data.table.where(data.table.labels["model"].is_(model))
    sent = table.where(table.within("sent", w.start, w.end))
    return View(
        w,
        model is None,
        table,
        sent,
        sent.where(sent.status("ok")),
        _gaps(data.gaps, model),
        _gaps(data.gaps_per_token, model),
        goodput,
    )


def _gaps(by_model: Mapping[str, GapCounts], model: str | None) -> GapCounts:
    found = GapCounts()
    for name in sorted(by_model):
        if model is None or name == model:
            found = found.plus(by_model[name])
    return found


def metrics(v: View) -> Metrics:
    """Every metric; a number that could not be measured is absent with its reason."""
    ok, w = v.ok, v.window
    latency = per_request(ok)
    no_stream = NO_STREAM if len(ok) and not ok.streaming.any() else NONE_OK
    loop = NONE_OK if w.open_loop else CLOSED
    sent_ok = len(ok) > 0
    single = "no answer had more than one token" if sent_ok and no_stream == NONE_OK else ""
    output, inputs = _token_rate(v), _input_rate(v)
    return Metrics(
        requests=counts(v.sent),
        requests_total=counts(v.table),
        error_rate=_error_rate(v),
        ttft=_latency(latency["ttft"], no_stream),
        tpot=_latency(latency["tpot"], single or no_stream),
        itl=v.gaps.distribution(_no_gaps(ok) or single or no_stream),
        itl_per_token=v.gaps_per_token.distribution(
            "the server sends no usage with every chunk" if sent_ok else NONE_OK
        ),
        ntpot=_latency(latency["ntpot"], "no output tokens were counted" if sent_ok else NONE_OK),
        e2e=_latency(latency["e2e"], NONE_OK),
        connect=_latency(_connect(v), "every request reused a connection" if len(v.sent) else NONE_OK),
        ttft_scheduled=_latency(latency["ttft_scheduled"], loop if loop == CLOSED else no_stream),
        e2e_scheduled=_latency(latency["e2e_scheduled"], loop),
        schedule_delay=_latency(v.sent.seconds("sent", "ready"), "the client did not record when requests were ready"),
        cap_wait=_cap_wait(v),
        output_tokens_per_second=output,
        input_tokens_per_second=inputs,
        total_tokens_per_second=_sum(output, inputs),
        requests_per_second=_per_second(float(_completed(v).sum()), v, "requests/s"),
        batches_per_second=Absent("the server does not tell"),
        goodput=_goodput(v),
        goodput_fraction=_goodput_fraction(v),
        requested_rate=_requested_rate(v),
        achieved_rate=_per_second(float(len(v.sent)), v, "requests/s"),
        sent_gap_cv=_gap_cv(v.sent),
        concurrency=_concurrency(v),
        concurrency_max=_concurrency_max(v),
        input_length=_lengths(ok, "input"),
        output_length=_lengths(ok, "output"),
        prefix_hit_rate=_prefix_hits(ok),
    )


def _no_gaps(ok: Table) -> str:
    """Where answers of several tokens were streamed, but no chunk was seen: a tool that keeps only the ends."""
    several = ok.streaming & (ok["output_tokens"] > 1)
    return "the load generator did not record when chunks arrived" if several.any() and not ok.chunks.any() else ""


def counts(table: Table) -> RequestCounts:
    """Requests by outcome, failures by class."""
    failed = table.status("failed")
    errors = table.where(failed).labels["error_class"].counts()
    unnamed = int(failed.sum()) - sum(errors.values())
    if unnamed:
        errors["unknown"] = unnamed
    return RequestCounts(
        len(table),
        int(table.status("ok").sum()),
        int(failed.sum()),
        int(table.status("cancelled").sum()),
        dict(sorted(errors.items())),
    )


def _latency(values: FloatArray, absent: str) -> Distribution | Absent:
    return distribution(values[np.isfinite(values)], "s", absent)


def _connect(v: View) -> FloatArray:
    connect = v.sent["connect"]
    found: FloatArray = connect[connect != MISSING] / 1e9
    return found


def _cap_wait(v: View) -> Distribution | Absent:
    if not v.window.open_loop:
        return Absent(CLOSED)
    if v.window.concurrency is None:
        return Absent("no concurrency cap")
    return _latency(v.sent.seconds("ready", "scheduled"), "the client did not record when requests were ready")


def _per_second(total: float, v: View, unit: str) -> Scalar:
    return Measured(total / v.window.seconds, unit) if v.window.seconds > 0 else Absent(EMPTY)


def _sum(a: Scalar, b: Scalar) -> Scalar:
    if isinstance(a, Measured) and isinstance(b, Measured):
        return Measured(a.value + b.value, a.unit)
    return a if isinstance(a, Absent) else b


def _error_rate(v: View) -> Scalar:
    finished = len(v.sent) - int(v.sent.status("cancelled").sum())
    if not finished:
        return Absent("no request that was sent inside the window finished")
    return Measured(int(v.sent.status("failed").sum()) / finished, "fraction")


def _completed(v: View) -> BoolArray:
    return v.table.status("ok") & v.table.within("end", v.window.start, v.window.end)


def _token_rate(v: View) -> Scalar:
    """Tokens that reached the client; those of failed requests are not counted."""
    return _per_second(float(v.table.tokens_inside[~v.table.status("failed")].sum()), v, "tokens/s")


def _input_rate(v: View) -> Scalar:
    """Prompt tokens whose processing ended (first token, else the end) inside the window."""
    t, w = v.table, v.window
    done = np.where(t.streaming & t.known("first_token"), t["first_token"], t["end"])
    mine = ~t.status("failed") & (done >= w.start) & (done < w.end)
    tokens = t["input_tokens"][mine]
    if len(tokens) and (tokens == MISSING).all():
        return Absent("the server does not tell, and there is no tokenizer")
    return _per_second(float(tokens[tokens != MISSING].sum()), v, "tokens/s")


def unmeasurable_limit(v: View) -> str | None:
    """Why the per-request limits cannot be judged; None where they can."""
    if not v.goodput:
        return "no per-request limits are configured (spec.benchmark.goodput)"
    hidden = unseen(v.table, v.goodput)
    return f"{', '.join(hidden)} is {NO_STREAM}" if hidden else None


def good(t: Table, limits: Mapping[str, float]) -> BoolArray:
    """Which requests succeeded and met every limit."""
    return t.status("ok") & met(t, limits)


def _goodput(v: View) -> Scalar:
    why = unmeasurable_limit(v)
    if why:
        return Absent(why)
    return _per_second(float((_completed(v) & good(v.table, v.goodput)).sum()), v, "requests/s")


def _goodput_fraction(v: View) -> Scalar:
    why = unmeasurable_limit(v)
    judged = v.sent.where(~v.sent.status("cancelled"))
    if why or not len(judged):
        return Absent(why or "no request that was sent inside the window finished")
    return Measured(float(good(judged, v.goodput).mean()), "fraction")


def _requested_rate(v: View) -> Scalar:
    """The rate of the plan, as far as it is this run's; where that changes over time, or is shared by models, the
    requests scheduled inside the window."""
    w = v.window
    if not w.open_loop:
        return Absent(CLOSED)
    if (v.table["turn"] > 0).any():
        return Absent("only the first request of a conversation has its time; the others follow the answers")
    if v.whole and w.rate is not None and w.arrival not in ("trace", "ramp", "steps", "spikes"):
        return Measured(w.rate * w.share, "requests/s")
    return _per_second(float(v.table.within("scheduled", w.start, w.end).sum()), v, "requests/s")


def _gap_cv(sent: Table) -> Scalar:
    gaps = np.diff(sent["sent"]).astype(float)
    if len(gaps) < 2 or gaps.mean() <= 0:
        return Absent("fewer than three requests were sent inside the window")
    return Measured(float(gaps.std(ddof=1) / gaps.mean()), "")


def _lifetimes(v: View) -> tuple[FloatArray, FloatArray]:
    """Start and end of every request, cut to the window; one without an end lasts beyond it."""
    t, w = v.table, v.window
    end = np.where(t.known("end"), t["end"], w.end)
    touches = t.known("sent") & (t["sent"] < w.end) & (end > w.start)
    return np.maximum(t["sent"][touches], w.start), np.minimum(end[touches], w.end)


def _concurrency(v: View) -> Scalar:
    if v.window.seconds <= 0:
        return Absent(EMPTY)
    start, end = _lifetimes(v)
    return Measured(float((end - start).sum()) / 1e9 / v.window.seconds, "requests")


def _concurrency_max(v: View) -> Scalar:
    if v.window.seconds <= 0:
        return Absent(EMPTY)
    start, end = _lifetimes(v)
    begun, ended = np.sort(start), np.sort(end)
    if not len(begun):
        return Measured(0.0, "requests")
    in_flight = np.arange(1, len(begun) + 1) - np.searchsorted(ended, begun, side="right")
    return Measured(float(in_flight.max()), "requests")


def _lengths(ok: Table, side: str) -> Lengths:
    asked, got = ok[f"{side}_asked"], ok[f"{side}_tokens"]
    both = (asked != MISSING) & (got != MISSING)
    sources = sorted(ok.labels[f"{side}_source"].counts())
    source = "+".join(sources) or None
    none = Absent("not counted" if len(ok) else NONE_OK)
    known = got[got != MISSING]
    achieved: Scalar = Measured(float(known.mean()), "tokens") if len(known) else none
    if not both.any():
        why = Absent("what was asked of each request is not known" if len(known) else none.absent)
        return Lengths(why, achieved, why, source)
    wanted, achieved_mean = float(asked[both].mean()), float(got[both].mean())
    deviation: Scalar = Absent("a length of zero was asked for")
    if wanted > 0:
        deviation = Measured(achieved_mean / wanted - 1, "fraction")
    return Lengths(Measured(wanted, "tokens"), Measured(achieved_mean, "tokens"), deviation, source)


def _prefix_hits(ok: Table) -> Scalar:
    told = (ok["cached_tokens"] != MISSING) & (ok["input_tokens"] != MISSING)
    total = int(ok["input_tokens"][told].sum())
    if not total:
        return Absent("the server does not tell")
    return Measured(int(ok["cached_tokens"][told].sum()) / total, "fraction")
