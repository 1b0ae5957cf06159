"""fmperf's results, one row a token, as records under our definitions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...domain.errors import GeneratorError
from ...domain.events import Finding
from ...domain.records import MISSING, ErrorClass, IntArray, Labels, Ragged, Status, TokenSource, offsets_of
from ..external import plan
from ..external.api import NativeResult, NativeStage
from ..external.rows import counts, failure, records_of

TOOL = "fmperf"
RESULTS = "results.json"
REQUESTS = "requests.json"
SEVERAL = ("sweep_results_all.json", "results_all.json")
PARTS = "results_wid*"
"""What each user's thread writes when it has ended; ``results.json`` joins them at the very end."""

BLOCK = 1 << 20
_BETWEEN = b'}, {"response": '
"""Between two rows as Python's json writes them. No string can hold it: a quote within one is escaped."""
_RESPONSE = re.compile(rb'"response": \{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\}')
_NAMED = {
    "list index out of range": "no stream in the response (fmperf hides the HTTP status and its reason)",
    "'usage'": "a chunk without usage, which fmperf needs in each (stream_options.continuous_usage_stats)",
    "'stop_reason'": "a chunk without stop_reason, which fmperf needs in each, as vLLM sends it",
}


class _Row(msgspec.Struct, gc=False):
    ok: bool
    timestamp: int
    duration_ms: float
    exp_num_users: int
    exp_duration: float
    worker_idx: int
    request_idx: int
    sample_idx: int
    response_idx: int
    n_tokens: int
    error: str = ""


_TYPES = {
    "timestamp": np.int64, "exp_num_users": np.int32, "worker_idx": np.int32, "request_idx": np.int32,
    "sample_idx": np.int32, "response_idx": np.int32, "n_tokens": np.int32,
}  # fmt: skip
"""The smallest types that hold them: there is a row for every token."""
_ORDER = ("exp_num_users", "worker_idx", "request_idx", "response_idx")


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows as columns, requests together and in order. ``error`` indexes ``errors``; -1: the row is good."""

    ints: Mapping[str, npt.NDArray[Any]]
    duration_ns: IntArray
    error: npt.NDArray[np.int32]
    errors: tuple[str, ...]
    seconds: float

    def __len__(self) -> int:
        return len(self.duration_ns)


def parse(path: Path) -> NativeResult:
    """The results in a folder, or a results file; see ``Adapter.parse``."""
    files = _files(path)
    rows = _read(files)
    if not len(rows):
        raise GeneratorError(f"{files[0]} holds no rows", advice="did fmperf end properly?")
    asked = _asked(files[0].parent / REQUESTS)
    stages: list[NativeStage] = []
    findings: list[Finding] = []
    several = np.unique(rows.ints["exp_num_users"]).tolist()
    for users in several:
        mine = rows if len(several) == 1 else _take(rows, rows.ints["exp_num_users"] == users)
        stage, found = _stage(mine, users, asked)
        stages.append(stage)
        findings += found
    return NativeResult(TOOL, None, stages, findings, model=asked.model)


def tidy(folder: Path) -> None:
    """Take prompts and responses out of the files of a run; what is left parses as before."""
    for path in (p for name in (RESULTS, *SEVERAL) if (p := folder / name).exists()):
        draft = path.with_suffix(".new")
        with draft.open("wb") as out:
            for k, block in enumerate(_blocks(path)):
                row = block if k == 0 else _BETWEEN + block
                out.write(_RESPONSE.sub(b'"response": null', row))
        draft.replace(path)
    for path in folder.glob(PARTS):
        path.unlink()
    with suppress(OSError, ValueError):
        cases = json.loads((folder / REQUESTS).read_text())
        for case in cases:
            case["request"].pop("prompt", None)
            case.pop("expected", None)
        (folder / REQUESTS).write_text(json.dumps(cases))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for name in (RESULTS, *SEVERAL):
        found = sorted(path.rglob(name)) if path.is_dir() else []
        if len(found) > 1:
            raise GeneratorError(f"{len(found)} results of {TOOL} in {path}", advice="give one of their folders")
        if found:
            return found
    parts = sorted(path.glob(PARTS)) if path.is_dir() else []
    if parts:
        return parts
    raise GeneratorError(f"no results of {TOOL} in {path}: looked for {RESULTS}, {', '.join(SEVERAL)}, {PARTS}")


def _blocks(path: Path) -> Iterator[bytes]:
    """A file cut between rows, without what stands between them; joined by it, they are the file again."""
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(BLOCK):
            rest += chunk
            cut = rest.rfind(_BETWEEN)
            if cut >= 0:
                yield rest[:cut]
                rest = rest[cut + len(_BETWEEN) :]
    yield rest


def _arrays(path: Path) -> Iterator[bytes]:
    """The rows of a file as JSON arrays of bounded size."""
    pending: bytes | None = None
    for block in _blocks(path):
        if pending is not None:
            yield pending + b"}]"
        # The first block opens the array, maybe within {"results": [...]; each further one lost its opening.
        pending = block[block.find(b"[") :] if pending is None else b'[{"response": ' + block
    assert pending is not None
    yield pending[: pending.rfind(b"]") + 1]


def _read(files: list[Path]) -> _Rows:
    decoder = msgspec.json.Decoder(list[_Row])
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in (*_TYPES, "duration", "error")}
    errors: dict[str, int] = {}
    seconds = 0.0
    for path in files:
        try:
            for block in _arrays(path):
                rows = decoder.decode(block)
                for name, kind in _TYPES.items():
                    parts[name].append(np.fromiter(map(attrgetter(name), rows), kind, len(rows)))
                duration = np.fromiter((r.duration_ms for r in rows), np.float64, len(rows))
                parts["duration"].append(np.rint(duration * 1e6).astype(np.int64))
                bad = (-1 if r.ok else errors.setdefault(r.error, len(errors)) for r in rows)
                parts["error"].append(np.fromiter(bad, np.int32, len(rows)))
                seconds = rows[0].exp_duration if rows else seconds
        except OSError as error:
            raise GeneratorError(f"{path} cannot be read: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise GeneratorError(f"{path} is no whole result of {TOOL}: {error}", advice="was it cut off?") from None
    whole = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
    found = _Rows({n: whole[n] for n in _TYPES}, whole["duration"], whole["error"], tuple(errors), seconds)
    return found if _in_order(found) else _take(found, np.lexsort(tuple(whole[n] for n in reversed(_ORDER))))


def _in_order(rows: _Rows) -> bool:
    """Whether the rows are in the order of users, worker, request and token, as fmperf writes them."""
    behind = np.ones(max(0, len(rows) - 1), np.bool_)  # rows that are not before their predecessor
    for name in reversed(_ORDER):
        column = rows.ints[name]
        behind = (column[1:] > column[:-1]) | ((column[1:] == column[:-1]) & behind)
    return bool(behind.all())


def _take(rows: _Rows, index: npt.NDArray[Any]) -> _Rows:
    """The rows of an index or a mask."""
    ints = {n: v[index] for n, v in rows.ints.items()}
    return _Rows(ints, rows.duration_ns[index], rows.error[index], rows.errors, rows.seconds)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Prompt and output tokens of each sample request, and the model they name."""

    tokens: npt.NDArray[np.int64]
    model: str | None


def _asked(path: Path) -> _Asked:
    try:
        cases = json.loads(path.read_text())
        tokens = [(c["config"]["in_tokens"], c["config"]["out_tokens"]) for c in cases]
        return _Asked(np.asarray(tokens, np.int64).reshape(-1, 2), cases[0]["request"].get("model") if cases else None)
    except (OSError, ValueError, KeyError, TypeError):
        return _Asked(np.empty((0, 2), np.int64), None)


def _stage(rows: _Rows, users: int, asked: _Asked) -> tuple[NativeStage, list[Finding]]:
    worker, request = rows.ints["worker_idx"], rows.ints["request_idx"]
    new = np.ones(len(rows), np.bool_)
    new[1:] = (np.diff(worker) != 0) | (np.diff(request) != 0)
    first = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    n = len(first)
    time = rows.ints["timestamp"]
    sent = time[first] - rows.duration_ns[first]
    last = np.append(first[1:], len(rows)) - 1
    chunks, tokens = _chunks(rows, group, sent)
    start = np.where(chunks.lengths > 0, chunks.offsets[:-1], 0)
    times = np.append(chunks.values, 0).astype(np.int64) * 1000  # one more, so that every index below is good
    had = chunks.lengths > 0
    failed, classes, messages = _failures(rows, group, n)
    columns: dict[str, Any] = {
        "request_id": np.arange(n),
        "worker": worker[first].astype(np.int64),
        "sent": sent,
        "first_token": np.where(had, sent + times[start], MISSING),
        "last_token": np.where(had, sent + times[np.where(had, chunks.offsets[1:] - 1, 0)], MISSING),
        "end": time[last],
        "chunk_times": chunks,
        "chunk_tokens": tokens,
        "output_tokens": np.where(failed, MISSING, np.bincount(group, rows.ints["n_tokens"], n).astype(np.int64)),
        "output_source": Labels(np.where(failed, -1, 0).astype(np.int32), (TokenSource.USAGE.value,)),
        "streaming": np.ones(n, np.bool_),
        "status": Labels(failed.astype(np.int32), (Status.OK.value, Status.FAILED.value)),
        "error_class": classes,
        "error": messages,
    }
    sample = rows.ints["sample_idx"][first]
    if len(asked.tokens) and int(sample.max(initial=0)) < len(asked.tokens):
        columns["input_asked"], columns["output_asked"] = asked.tokens[sample].T
        # Prompts are token ids: what was sent is what was asked for.
        columns["input_tokens"] = np.where(failed, MISSING, columns["input_asked"])
        columns["input_source"] = Labels(np.where(failed, -1, 0).astype(np.int32), (TokenSource.TOKENIZER.value,))
    records = records_of(n, columns)
    begun = int(sent.min())
    window = (begun, begun + round(rows.seconds * 1e9))
    stage = NativeStage(f"c={users}", {"concurrency": users}, records, {}, window, counts(records))
    return stage, [*_lost(worker[first], request[first], users), *_refused(messages, users)]


def _chunks(rows: _Rows, group: IntArray, sent: IntArray) -> tuple[Ragged, Ragged]:
    """Times and tokens of the chunks: rows of one request with one timestamp came in one."""
    good = np.flatnonzero((rows.error < 0) & (rows.ints["n_tokens"] > 0))
    time, owner = rows.ints["timestamp"][good], group[good]
    new = np.ones(len(good), np.bool_)
    new[1:] = (np.diff(owner) != 0) | (np.diff(time) != 0)
    begins = np.flatnonzero(new)
    owners = owner[begins]
    offsets = offsets_of(np.bincount(owners, minlength=len(sent)))
    after = (time[begins] - sent[owners]) // 1000
    counted = np.add.reduceat(rows.ints["n_tokens"][good], begins) if len(begins) else np.empty(0, np.int64)
    return Ragged(offsets, after.astype(np.int32)), Ragged(offsets, counted.astype(np.int32))


def _failures(rows: _Rows, group: IntArray, n: int) -> tuple[npt.NDArray[np.bool_], Labels, Labels]:
    """Which requests failed, with the class of the error and a message that quotes nothing."""
    which = np.full(n, -1, np.int64)
    bad = rows.error >= 0
    which[group[bad]] = rows.error[bad]
    kinds: list[str | None] = []
    messages: list[str] = []
    for text in rows.errors:
        if text in _NAMED:
            kinds.append(ErrorClass.PROTOCOL)
            messages.append(_NAMED[text])
        else:
            told = failure("error", text)
            kinds.append(told["error_class"])
            messages.append(str(told["error"]))
    names = Labels.from_list([*kinds])
    codes = np.append(names.codes, -1)[which]
    return which >= 0, Labels(codes.astype(np.int32), names.names), Labels(which.astype(np.int32), tuple(messages))


def _refused(messages: Labels, users: int) -> Iterator[Finding]:
    """Failures of which fmperf tells something else than the cause."""
    for text, n in messages.counts().items():
        if text in _NAMED.values():
            yield plan.warning(
                "fmperf_failures",
                f"fmperf, c={users}: {n} requests failed with {text}",
                "look into the server's log; a server without these fields needs another load generator",
            )


def _lost(worker: IntArray, request: IntArray, users: int) -> Iterator[Finding]:
    """Requests are numbered from 0 for each user; one that got a response without a token left no row."""
    gone = 0
    for one in np.unique(worker).tolist():
        numbers = request[worker == one]
        gone += int(numbers.max()) + 1 - len(numbers)
    if gone:
        yield plan.warning(
            "requests_without_rows",
            f"fmperf, c={users}: {gone} requests left no row; their responses held no token",
            "look into the server's log; they are in no count",
        )
