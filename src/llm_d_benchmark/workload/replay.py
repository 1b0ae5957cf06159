"""A schedule as an artifact: the rows of a run, and the same sessions again from them.

A row is a request. Its texts are not in it: they are drawn again from the seed, the stage and the position of the
session, by the workload that a comment above the header names (synthetic prompts need none: their length says it all).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from ..domain.errors import ConfigError
from ..domain.schedule import Stage, Turn
from .api import Content, Workload, WorkloadContext
from .registry import create_workload
from .rows import Row, field_of, head_comments, number
from .seeds import Streams, Use

STAGE_IDS = 2**32
"""Request and session ids of stage s start at s * STAGE_IDS, so that every shard numbers alike."""

ROW_COLUMNS = ("request_id", "stage", "session", "turn", "timestamp", "model", "input_length", "output_length")
_MARK = ("request_id", "stage", "session", "turn", "timestamp")
_HEAD = "prompts:"


def head_line(stages: Iterable[int], options: Mapping[str, Any]) -> str:
    """The comment that says which workload makes the prompts of these stages; empty where the rows say enough."""
    if options.get("type", "synthetic") == "synthetic":
        return ""
    return f"# {_HEAD} {json.dumps({'stages': list(stages), 'workload': dict(options)})}\n"


def csv_line(values: Sequence[object]) -> str:
    """One line of the artifact. Numbers are written so that they read back as they were; None is an empty field."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def is_schedule(row: Row) -> bool:
    """Whether a row is one of a schedule rather than of a recorded trace."""
    return all(name in row for name in _MARK)


def replay(
    path: str, rows: Iterable[tuple[str, Row]], stage: Stage, seed: int, context: WorkloadContext
) -> Iterator[Content]:
    """The sessions of one stage of a schedule, in the order of the file.

    Raises:
        ConfigError: the file has no such stage, or a row is malformed.
    """
    workload = _workload(path, stage.index, context)
    maker = _Positions(workload.contents(stage, seed)) if workload else _Synthetic(stage.index, seed, context)
    seen: set[int] = set()
    found = False
    last: float | None = None
    begin = 0.0
    for (number_, session), group in groupby(rows, key=lambda entry: _session(*entry)):
        seen.add(number_)
        if number_ != stage.index:
            continue
        found = True
        requests = list(group)
        place, first = requests[0]
        offset = _time(place, first)
        if offset is not None:
            if last is None:
                begin = min(offset, 0.0)  # a load that was recorded as earlier than its stage
            elif offset < last:
                raise ConfigError(f"{place}: the timestamp lies before the one above it; sort the schedule by time")
            last = offset
            offset -= begin
        yield Content(
            maker.turns(session - number_ * STAGE_IDS, requests), offset, str(first.get("model") or "") or None
        )
    if not found:
        raise ConfigError(
            f"{path} has no stage {stage.index}; it has {', '.join(map(str, sorted(seen)))}",
            advice="workload.stage chooses the stage of the file to replay",
        )


class _Synthetic:
    """Turns from the lengths of the rows alone."""

    def __init__(self, stage: int, seed: int, context: WorkloadContext) -> None:
        self._stage = stage
        self._prompts = Streams(seed, Use.PROMPT)
        self._sizer = context.sizer

    def turns(self, position: int, requests: Sequence[tuple[str, Row]]) -> tuple[Turn, ...]:
        place, row = requests[0]
        if len(requests) > 1 or row.get("input_length") in (None, ""):
            raise ConfigError(
                f"{place}: the lengths do not say this session's prompts, and no line '# {_HEAD} ...' above the header "
                "says which workload made them"
            )
        tokens = number(place, row, ("input_length",))
        text = self._sizer.make(self._prompts.at(self._stage, position), max(1, tokens - self._sizer.overhead))
        return (Turn(text, tokens, _output(place, row)),)


class _Positions:
    """Turns from the workload that made them, found by position; those passed over are kept for later."""

    def __init__(self, contents: Iterator[Content]) -> None:
        self._contents = enumerate(contents)
        self._kept: dict[int, Content] = {}

    def turns(self, position: int, requests: Sequence[tuple[str, Row]]) -> tuple[Turn, ...]:
        while position not in self._kept:
            entry = next(self._contents, None)
            if entry is None or entry[0] > position:
                raise ConfigError(f"{requests[0][0]}: the workload that made this schedule has no such session now")
            self._kept[entry[0]] = entry[1]
        made = self._kept.pop(position).turns
        if len(made) < len(requests):
            raise ConfigError(f"{requests[0][0]}: the workload that made this schedule has fewer turns here now")
        return tuple(
            replace(turn, output_asked=_output(place, row)) for turn, (place, row) in zip(made, requests, strict=False)
        )


def made_by(path: str) -> Iterator[tuple[Sequence[int], dict[str, Any]]]:
    """The workloads that a schedule says made its prompts: (stages, options); of other files none.

    Raises:
        ConfigError: the file cannot be read, or what it says is damaged.
    """
    for comment in head_comments(path):
        if not comment.startswith(_HEAD):
            continue
        try:
            head = json.loads(comment.removeprefix(_HEAD))
            yield list(head["stages"]), dict(head["workload"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: the line '# {_HEAD} ...' is damaged") from error


def needs_text(options: Mapping[str, Any]) -> bool:
    """Whether prompts of a workload must be text: a conversation's, also where a schedule says that one made it."""
    kind, path = options.get("type"), options.get("path")
    if kind == "trace" and isinstance(path, str):
        return any(made.get("type") == "conversation" for _, made in made_by(path))
    return kind == "conversation"


def _workload(path: str, stage: int, context: WorkloadContext) -> Workload | None:
    for stages, options in made_by(path):
        if stage in stages:
            return create_workload(options, replace(context, options=options))
    return None


def _session(place: str, row: Row) -> tuple[int, int]:
    return _whole(place, row, "stage"), _whole(place, row, "session")


def _whole(place: str, row: Row, name: str) -> int:
    value = field_of(place, row, (name,), name)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{place}: {name} '{value}' is not a whole number") from None


def _time(place: str, row: Row) -> float | None:
    value = row.get("timestamp")
    if value in (None, ""):
        return None
    try:
        return float(str(value))
    except ValueError:
        raise ConfigError(f"{place}: timestamp '{value}' is not a number of seconds") from None


def _output(place: str, row: Row) -> int | None:
    return None if row.get("output_length") in (None, "") else number(place, row, ("output_length",))
