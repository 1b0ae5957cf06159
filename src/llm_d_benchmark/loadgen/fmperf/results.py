"""fmperf's results, one row a token, as records under our definitions."""

from __future__ import annotations

import json
import mmap
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

BLOCK = 1 << 18
KEPT = 1 << 25
"""Bytes of a file that is being read that stay in memory."""
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
    response_idx: int
    n_tokens: int
    duration_ms: float
    exp_num_users: int
    worker_idx: int
    request_idx: int
    sample_idx: int


class _Outcome(msgspec.Struct, gc=False):
    ok: bool
    exp_duration: float
    error: str = ""


_PER_REQUEST = ("exp_num_users", "worker_idx", "request_idx", "sample_idx", "duration_ms")


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows, of which a request has one for each token, and what is the same in all of a request.

    Attributes:
        time, tokens: of each row.
        first: index of each request's first row.
        requests: columns of the requests; ``duration_ms`` is that of the first row.
        bad: index of each row that is an error, and its index in ``errors``.
        seconds: that the experiment was to last.
    """

    time: IntArray
    tokens: npt.NDArray[np.int32]
    first: IntArray
    requests: Mapping[str, npt.NDArray[Any]]
    bad: tuple[IntArray, IntArray]
    errors: tuple[str, ...]
    seconds: float

    def __len__(self) -> int:
        return len(self.time)


def parse(path: Path) -> NativeResult:
    """The results in a folder, or a results file; see ``Adapter.parse``."""
    results = _results(path)
    asked = _asked(results[0][0].parent / REQUESTS)
    stages: list[NativeStage] = []
    findings: list[Finding] = []
    for files in results:
        for stage, found in _stages(files, asked):
            stages.append(stage)
            findings += found
    return NativeResult(TOOL, None, stages, findings, model=asked.model)


def _stages(files: list[Path], asked: _Asked) -> Iterator[tuple[NativeStage, list[Finding]]]:
    """One for each number of users, with its findings."""
    rows = _read(files)
    if not len(rows):
        raise GeneratorError(f"{files[0]} holds no rows", advice="did fmperf end properly?")
    several = np.unique(rows.requests["exp_num_users"]).tolist()
    for users in several:
        mine = rows if len(several) == 1 else _take(rows, rows.requests["exp_num_users"] == users)
        yield _stage(mine, users, asked)


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
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        cases = json.loads((folder / REQUESTS).read_text())
        for case in cases:
            case["request"].pop("prompt", None)
            case.pop("expected", None)
        (folder / REQUESTS).write_text(json.dumps(cases))


def _results(path: Path) -> list[list[Path]]:
    """The results in a folder, each with its files: of a run, of sweeps, else the parts of a run that did not end."""
    if path.is_file():
        return [[path]]
    results = []
    for name in (RESULTS, *SEVERAL):
        found = sorted(path.rglob(name)) if path.is_dir() else []
        if len(found) > 1:
            raise GeneratorError(f"{len(found)} results of {TOOL} in {path}", advice="give one of their folders")
        results += [found] if found else []
    if results:
        return results
    parts = sorted(path.glob(PARTS)) if path.is_dir() else []
    if parts:
        return [parts]
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


def _arrays(path: Path) -> Iterator[memoryview]:
    """The rows of a file as JSON arrays of bounded size: its one array, parted between rows in a copy-on-write map."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as data,
        memoryview(data) as view,
    ):
        start, end = max(0, data.find(b"[")), data.rfind(b"]") + 1  # the array may be within {"results": [...], ...}
        kept = 0
        while (at := data.find(_BETWEEN, start + BLOCK)) >= 0:
            data[at + 1 : at + 3] = b"]["
            with view[start : at + 2] as block:
                yield block
            start = at + 2
            if start - kept > KEPT:
                pages = (start - kept) // mmap.PAGESIZE * mmap.PAGESIZE
                data.madvise(mmap.MADV_DONTNEED, kept, pages)
                kept += pages
        with view[start:end] as block:
            yield block


def _read(files: list[Path]) -> _Rows:
    rows = _Reader()
    for path in files:
        try:
            for block in _arrays(path):
                rows.add(block)
        except OSError as error:
            raise GeneratorError(f"{path} cannot be read: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise GeneratorError(f"{path} is no whole result of {TOOL}: {error}", advice="was it cut off?") from None
        except ValueError as error:
            raise GeneratorError(f"{path} is no result as {TOOL} writes it: {error}") from None
    return rows.whole()


class _Reader:
    """Takes in rows, block by block. What is the same in all rows of a request is taken from its first one only."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(list[_Row])
        self._outcomes = msgspec.json.Decoder(list[_Outcome])
        self._parts: dict[str, list[npt.NDArray[Any]]] = {
            name: [] for name in ("time", "tokens", "first", "bad", "error", *_PER_REQUEST)
        }
        self._errors: dict[str, int] = {}
        self._count, self._last = 0, -1
        self._seconds: float | None = None

    def add(self, block: memoryview) -> None:
        """Raises ValueError where the rows of a request do not follow one another."""
        rows = self._decoder.decode(block)
        if not rows:
            return
        position = np.fromiter(map(attrgetter("response_idx"), rows), np.int32, len(rows))
        if (position != np.where(position == 0, 0, np.append(self._last, position[:-1]) + 1)).any():
            raise ValueError("the tokens of a request are not in order")
        self._last = int(position[-1])
        first = np.flatnonzero(position == 0)
        begun = [rows[i] for i in first.tolist()]
        for name in _PER_REQUEST:
            kind = np.float64 if name == "duration_ms" else np.int32
            self._parts[name].append(np.fromiter(map(attrgetter(name), begun), kind, len(begun)))
        self._parts["first"].append(first + self._count)
        self._parts["time"].append(np.fromiter(map(attrgetter("timestamp"), rows), np.int64, len(rows)))
        self._parts["tokens"].append(np.fromiter(map(attrgetter("n_tokens"), rows), np.int32, len(rows)))
        if self._seconds is None or not all(map(attrgetter("ok"), rows)):
            self._failures(block)
        self._count += len(rows)

    def _failures(self, block: memoryview) -> None:
        outcomes = self._outcomes.decode(block)
        self._seconds = outcomes[0].exp_duration if self._seconds is None else self._seconds
        bad = [i for i, o in enumerate(outcomes) if not o.ok]
        kinds = [self._errors.setdefault(outcomes[i].error, len(self._errors)) for i in bad]
        self._parts["bad"].append(np.asarray(bad, np.int64) + self._count)
        self._parts["error"].append(np.asarray(kinds, np.int64))

    def whole(self) -> _Rows:
        def joined(name: str, kind: Any = np.int64) -> npt.NDArray[Any]:
            parts = self._parts.pop(name)
            return np.concatenate(parts) if parts else np.empty(0, kind)

        requests = {name: joined(name) for name in _PER_REQUEST}
        first, bad = joined("first"), (joined("bad"), joined("error"))
        time, tokens = joined("time"), joined("tokens", np.int32)
        return _Rows(time, tokens, first, requests, bad, tuple(self._errors), self._seconds or 0.0)


def _take(rows: _Rows, wanted: npt.NDArray[np.bool_]) -> _Rows:
    """The rows of these requests."""
    lengths = np.diff(np.append(rows.first, len(rows)))
    mask = np.repeat(wanted, lengths)
    requests = {name: column[wanted] for name, column in rows.requests.items()}
    first = np.cumsum(lengths[wanted]) - lengths[wanted]
    at, kinds = rows.bad
    bad = (np.cumsum(mask)[at[mask[at]]] - 1, kinds[mask[at]])
    return _Rows(rows.time[mask], rows.tokens[mask], first, requests, bad, rows.errors, rows.seconds)


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
    worker, request = rows.requests["worker_idx"], rows.requests["request_idx"]
    first, time, n = rows.first, rows.time, len(rows.first)
    last = np.append(first[1:], len(rows)) - 1
    group = np.repeat(np.arange(n), last + 1 - first)
    sent = time[first] - np.rint(rows.requests["duration_ms"] * 1e6).astype(np.int64)
    chunks, tokens = _chunks(rows, group, sent)
    start = np.where(chunks.lengths > 0, chunks.offsets[:-1], 0)
    times = np.append(chunks.values, 0).astype(np.int64) * 1000  # one more, so that every index below is good
    had = chunks.lengths > 0
    failed, classes, messages = _failures(rows, group, n)
    columns: dict[str, Any] = {
        "request_id": np.arange(n),
        "worker": worker.astype(np.int64),
        "sent": sent,
        "first_token": np.where(had, sent + times[start], MISSING),
        "last_token": np.where(had, sent + times[np.where(had, chunks.offsets[1:] - 1, 0)], MISSING),
        "end": time[last],
        "chunk_times": chunks,
        "chunk_tokens": tokens,
        "output_tokens": np.where(failed, MISSING, np.add.reduceat(rows.tokens, first, dtype=np.int64)),
        "output_source": Labels(np.where(failed, -1, 0).astype(np.int32), (TokenSource.USAGE.value,)),
        "streaming": np.ones(n, np.bool_),
        "status": Labels(failed.astype(np.int32), (Status.OK.value, Status.FAILED.value)),
        "error_class": classes,
        "error": messages,
    }
    sample = rows.requests["sample_idx"]
    if len(asked.tokens) and int(sample.max(initial=0)) < len(asked.tokens):
        columns["input_asked"], columns["output_asked"] = asked.tokens[sample].T
        # Prompts are token ids: what was sent is what was asked for.
        columns["input_tokens"] = np.where(failed, MISSING, columns["input_asked"])
        columns["input_source"] = Labels(np.where(failed, -1, 0).astype(np.int32), (TokenSource.TOKENIZER.value,))
    records = records_of(n, columns)
    begun = int(sent.min())
    window = (begun, begun + round(rows.seconds * 1e9))
    stage = NativeStage(f"c={users}", {"concurrency": users}, records, {}, window, counts(records))
    return stage, [*_lost(worker, request, users), *_refused(messages, users)]


def _chunks(rows: _Rows, group: IntArray, sent: IntArray) -> tuple[Ragged, Ragged]:
    """Times and tokens of the chunks: rows of one request with one timestamp came in one."""
    wanted = rows.tokens > 0
    wanted[rows.bad[0]] = False
    good = np.flatnonzero(wanted)
    time, owner = rows.time[good], group[good]
    new = np.ones(len(good), np.bool_)
    new[1:] = (np.diff(owner) != 0) | (np.diff(time) != 0)
    begins = np.flatnonzero(new)
    owners = owner[begins]
    offsets = offsets_of(np.bincount(owners, minlength=len(sent)))
    after = (time[begins] - sent[owners]) // 1000
    counted = np.add.reduceat(rows.tokens[good], begins) if len(begins) else np.empty(0, np.int64)
    return Ragged(offsets, after.astype(np.int32)), Ragged(offsets, counted.astype(np.int32))


def _failures(rows: _Rows, group: IntArray, n: int) -> tuple[npt.NDArray[np.bool_], Labels, Labels]:
    """Which requests failed, with the class of the error and a message that quotes nothing."""
    which = np.full(n, -1, np.int64)
    at, error = rows.bad
    which[group[at]] = error
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
