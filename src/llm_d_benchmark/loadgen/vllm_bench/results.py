"""What ``vllm bench serve`` leaves behind, as our records: arrays with one entry per request, and its summary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...analyze.consistency import inconsistencies
from ...domain.errors import GeneratorError
from ...domain.events import Finding
from ...domain.records import Records, Status
from ...domain.result import PERCENTILES, Measured, Scalar
from ..external import plan
from ..external.api import NativeResult, NativeStage
from ..external.clock import to_epoch
from ..external.rows import Row, counts, failure, is_number, measured, statistic, stream, to_records, window

TOOL = "vllm-bench"
NOT_SENT = "not sent: the time is over"
"""The error of what our launcher kept it from sending; such entries are no requests."""
_S = 1_000_000_000
SAMPLED = 500
_METRICS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e"}
_FIGURE = re.compile(r"(mean|median|std|p\d+(?:\.\d+)?)_(ttft|tpot|itl|e2el)_ms")
_RATES = {
    "request_throughput": ("requests_per_second", "requests/s"),
    "output_throughput": ("output_tokens_per_second", "tokens/s"),
    "total_token_throughput": ("total_tokens_per_second", "tokens/s"),
    "request_goodput": ("goodput", "requests/s"),
    "request_goodput:": ("goodput", "requests/s"),  # as versions before 0.9 spell it
}
_REASONS = {status.phrase: status.value for status in HTTPStatus if status.value >= 400}
Raws = dict[str, msgspec.Raw]
FloatArray = npt.NDArray[np.float64]


class _Arrays:
    """One entry per request, in the order of submission; None where the result was saved without them."""

    def __init__(self, raw: Raws, *, chat: bool) -> None:
        self.inputs = _decoded(raw, "input_lens", list[int])
        self.outputs = _decoded(raw, "output_lens", list[int])
        self.ttfts = _decoded(raw, "ttfts", list[float])
        self.gaps = _decoded(raw, "itls", list[msgspec.Raw])
        self.errors = _decoded(raw, "errors", list[str])
        self.starts = _decoded(raw, "start_times", list[float])
        self.queued = _decoded(raw, "queue_times", list[float])
        self.chat = chat
        self.trimmed = 0
        self.unsent = [] if self.errors is None else [i for i, text in enumerate(self.errors) if text == NOT_SENT]

    @property
    def sent(self) -> list[int]:
        """The entries that are requests."""
        left_out = set(self.unsent)
        return [i for i in range(len(self)) if i not in left_out]

    @property
    def complete(self) -> bool:
        """Whether they hold what a request needs, each of the same length."""
        given = (self.outputs, self.ttfts, self.gaps)
        lengths = {0 if a is None else len(a) for a in given}
        return len(lengths) == 1 and lengths != {0}

    def __len__(self) -> int:
        return len(self.outputs or ())

    def error(self, i: int) -> str | None:
        """The error of a request: '' where it failed without a word; None where it succeeded."""
        text = self.errors[i] if self.errors is not None else ""
        assert self.outputs is not None
        return text if text or self.outputs[i] == 0 else None

    def _events(self, i: int) -> tuple[FloatArray, int]:
        """Seconds from sending to each event of a stream, and how many more events it has than tokens."""
        assert self.ttfts is not None
        assert self.gaps is not None
        assert self.outputs is not None
        gaps = msgspec.json.decode(self.gaps[i], type=list[float])
        at = np.cumsum(np.asarray([self.ttfts[i], *gaps], np.float64))
        return at, len(at) - self.outputs[i]

    @cached_property
    def empty(self) -> int:
        """How many events without content every stream has.

        It counts each event that has a choice. A content chunk has at least one token, so events beyond the tokens
        have no content: the last one (with the finish reason), which follows at once, and of a chat with two such the
        first (with the role) too. Of a chat with one such it cannot be told which it is.
        """
        expected = 2 if self.chat else 1
        alike = quick = 0
        for i in [i for i in self.sent if self.error(i) is None][:SAMPLED]:
            at, more = self._events(i)
            if more == expected and len(at) > 2:
                alike += 1
                quick += bool(at[-1] - at[-2] < np.median(np.diff(at)) / 2)
        return expected if quick * 2 > alike else 0

    def arrivals(self, i: int) -> FloatArray:
        """Seconds from sending to each content chunk of a success."""
        at, more = self._events(i)
        if not self.empty or more != self.empty:
            return at
        self.trimmed += 1
        return at[1:-1] if self.chat else at[:-1]


def _decoded(raw: Raws, key: str, kind: Any) -> Any:
    if key not in raw or bytes(raw[key]) == b"null":
        return None
    try:
        return msgspec.json.decode(raw[key], type=kind)
    except msgspec.DecodeError as error:
        raise GeneratorError(f"'{key}' in the result of {TOOL} is not what it should be: {error}") from None


def parse(path: Path) -> NativeResult:
    """See ``Adapter.parse``. A file (also of several results, one a line), or a folder with such files."""
    findings: list[Finding] = []
    found = [(file, raw) for file in _files(path) for raw in _results(file, findings)]
    if not found:
        damaged = "".join(f"\n{f.message}" for f in findings)
        looked = "looked for a .json file with 'completed' and 'request_throughput'"
        raise GeneratorError(
            f"no result of {TOOL} in {path}: {looked}{damaged}",
            advice="was it cut off?" if damaged else "run vllm bench serve with --save-result --save-detailed",
        )
    stages = [_stage(file, raw, findings) for file, raw in found]
    model = _scalars(found[0][1]).get("model_id")
    return NativeResult(TOOL, None, stages, findings, model if isinstance(model, str) else None)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.glob("*.json") if p.is_file() and not p.name.endswith(".pytorch.json"))


def _results(file: Path, findings: list[Finding]) -> list[Raws]:
    """The results in a file: it is one, or has one a line. What of it is not whole is left out, with a finding."""
    data = file.read_bytes()
    for pieces in ([data], [line for line in data.splitlines() if line.strip()]):
        found: list[Raws] = []
        broken = 0
        for piece in pieces:
            try:
                found.append(msgspec.json.decode(piece, type=Raws))
            except msgspec.ValidationError:
                continue  # JSON, but no object
            except (msgspec.DecodeError, RecursionError):
                broken += 1
        if not broken:
            break
    if broken:
        lines = f"{broken} of {len(pieces)} lines of {file.name} are no whole JSON"
        text = lines if found else f"{file.name} is no whole JSON file"
        findings.append(plan.warning("left_out", f"{text}: left out", "was it cut off?"))
    return [raw for raw in found if {"completed", "request_throughput"} <= raw.keys()]


def _scalars(raw: Raws) -> dict[str, Any]:
    """Everything but the arrays."""
    return {k: msgspec.json.decode(v) for k, v in raw.items() if bytes(memoryview(v)[:1]) not in (b"[", b"{")}


def _stage(file: Path, raw: Raws, findings: list[Finding]) -> NativeStage:
    told = _scalars(raw)
    chat = "chat" in str(told.get("backend") or told.get("endpoint_type") or "")
    arrays = _Arrays(raw, chat=chat)
    load = _load(told)
    name = plan.label(load) if load else "all at once"
    figures, own = _figures(told), _counts(told, arrays)
    records = None
    if not arrays.complete:
        text = f"{file.name} has no arrays of requests: there are only the tool's own figures"
        findings.append(plan.warning("no_requests_kept", text, "run vllm bench serve with --save-detailed"))
    elif arrays.starts is None:
        text = f"{file.name} does not tell when requests started: their latencies are summarised, without requests"
        findings.append(plan.warning("starts_unknown", text, "a newer vllm saves start_times"))
        figures |= _from_arrays(arrays)
    else:
        records = _records(file, told, arrays, findings)
    if arrays.trimmed:
        text = f"{TOOL} timed events without content in {arrays.trimmed} answers: they are left out"
        findings.append(plan.info("events_without_content", text, "its own itl has their gaps in it"))
    if chat and arrays.trimmed < own["succeeded"]:
        text = f"{TOOL} takes the first event of a chat as the first token, even one that carries no content"
        findings.append(plan.warning("first_event_is_no_token", text, "ttft may be too short; use completions"))
    findings += inconsistencies(records, figures, own, where=f"{TOOL}, {name}")
    if records is None:
        return NativeStage(name, load, None, figures, None, own)
    return NativeStage(name, load, records, figures, window(records), counts(records))


def _load(told: Mapping[str, Any]) -> dict[str, object]:
    rate, burstiness = told.get("request_rate"), told.get("burstiness")
    open_loop = is_number(rate)
    kind = None
    if open_loop and is_number(burstiness):
        kind = "poisson" if burstiness == 1 else "constant" if float(burstiness or 1) >= 1000 else "gamma"
    known = {"rate": rate if open_loop else None, "concurrency": told.get("max_concurrency"), "arrival": kind}
    return {k: v for k, v in known.items() if v is not None}


def _counts(told: Mapping[str, Any], arrays: _Arrays) -> dict[str, int]:
    completed = int(told.get("completed") or 0)
    failed = told.get("failed")
    if failed is None:  # older versions do not count them
        total = len(arrays) if arrays.complete else told.get("num_prompts")
        failed = int(str(total)) - completed if is_number(total) else None
    if failed is None:
        return {"succeeded": completed}
    failed = int(failed) - len(arrays.unsent)
    return {"sent": completed + failed, "succeeded": completed, "failed": failed}


def _figures(told: Mapping[str, Any]) -> dict[str, Scalar]:
    """``mean_ttft_ms`` as ``ttft.mean`` in seconds, and so on."""
    out: dict[str, Scalar] = {}
    for key, value in told.items():
        found = _FIGURE.fullmatch(key)
        own = statistic(found[1]) if found else None
        if found and own:
            out |= measured(f"{_METRICS[found[2]]}.{own}", value, "s", 1e-3)
    for theirs, (ours, unit) in _RATES.items():
        out |= measured(ours, told.get(theirs), unit)
    return out


# --- requests ---


def _records(file: Path, told: Mapping[str, Any], arrays: _Arrays, findings: list[Finding]) -> Records:
    open_loop = "rate" in _load(told)
    rows = [_row(arrays, i, open_loop=open_loop) for i in arrays.sent]
    if not rows:
        return to_records([])
    offset, finding = to_epoch(
        min(row["sent"] for row in rows), max(row["end"] for row in rows), file, end=_date(told.get("date"))
    )
    findings += [] if finding is None else [finding]
    silent = sum(row.get("error") == "error" for row in rows)
    unended = sum(row["status"] is Status.FAILED for row in rows)
    if silent:
        findings.append(plan.warning("failures_without_reason", f"{silent} requests failed without a reason told"))
    if unended:
        text = f"{unended} failed requests have no end in its results and count as ended when they began"
        findings.append(plan.warning("failures_without_end", text, "the concurrency is understated by them"))
    times = ("scheduled", "ready", "sent", "first_token", "last_token", "end")
    return to_records([row | {k: row[k] + offset for k in times if row.get(k) is not None} for row in rows])


def _date(text: object) -> int | None:
    """Epoch ns of its own time of the end, if its time zone is that of this machine."""
    with suppress(ValueError):
        return round(datetime.strptime(str(text), "%Y%m%d-%H%M%S").astimezone().timestamp() * _S)
    return None


def _row(arrays: _Arrays, i: int, *, open_loop: bool) -> Row:
    assert arrays.starts is not None
    assert arrays.outputs is not None
    sent = round(arrays.starts[i] * _S)
    arrived = None if arrays.queued is None else sent - round(arrays.queued[i] * _S)
    row: Row = {"sent": sent, "end": sent, "streaming": True, "scheduled": arrived if open_loop else None}
    if arrays.inputs is not None and arrays.inputs[i]:
        row["input_tokens"] = arrays.inputs[i]
    error = arrays.error(i)
    if error is not None:
        return row | _failure(error)
    at = sent + np.rint(arrays.arrivals(i) * _S).astype(np.int64)
    row |= {"status": Status.OK, "http_status": 200, "output_tokens": arrays.outputs[i], "end": int(at[-1])}
    return row | stream(sent, at)


def _failure(error: str) -> Row:
    """Its errors are the reason phrase of the response, or a traceback."""
    if error.strip() in _REASONS:
        return failure(error.strip(), None, _REASONS[error.strip()])
    last = error.strip().rsplit("\n", 1)[-1]
    kind = re.match(r"[\w.]+", last) if "Traceback" in error else None
    return failure(kind[0].rsplit(".", 1)[-1] if kind else None, last)


def _from_arrays(arrays: _Arrays) -> dict[str, Scalar]:
    """Figures of the successes under our definitions; where starts are unknown there can be no records."""
    assert arrays.outputs is not None
    good = [i for i in arrays.sent if arrays.error(i) is None]
    at = [arrays.arrivals(i) for i in good]
    tokens = np.asarray([arrays.outputs[i] for i in good], np.float64)
    ttft, e2e = np.asarray([a[0] for a in at]), np.asarray([a[-1] for a in at])
    many = tokens > 1
    values = {
        "ttft": ttft,
        "e2e": e2e,
        "tpot": (e2e - ttft)[many] / (tokens[many] - 1),
        "ntpot": e2e / np.maximum(tokens, 1),
        "itl": np.concatenate([np.diff(a) for a in at]) if at else np.empty(0),
    }
    out: dict[str, Scalar] = {}
    for name, found in values.items():
        out |= _summary(name, found, "s")
    return out | _summary("output_tokens", tokens, "tokens")


def _summary(name: str, values: FloatArray, unit: str) -> dict[str, Scalar]:
    if not len(values):
        return {}
    out: dict[str, float] = {"mean": values.mean(), "min": values.min(), "max": values.max()}
    if len(values) > 1:
        out["sd"] = values.std(ddof=1)
    out |= {level: np.quantile(values, q) for level, q in PERCENTILES}
    return {f"{name}.{k}": Measured(float(v), unit) for k, v in out.items()}
