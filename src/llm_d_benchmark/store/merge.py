"""Joins the run folders of several machines into one, by their records: percentiles of the whole stay exact."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..domain.errors import ConfigError, StoreError
from ..domain.events import Event, EventType, Finding, Severity
from .folder import RunFolder
from .writer import SAMPLES, RunWriter

START_TOLERANCE_NS = 50_000_000


def merge(folders: Sequence[RunFolder], output: Path) -> Path:
    """Make one run folder from the shards of one schedule.

    A stage that its duration bounds has the window that all shards share; one that a number of requests bounds ends
    with its last shard. Missing shards are named in the manifest. Time series are taken from one shard, as all of them
    watch the same server.

    Raises:
        ConfigError: the folders are not shards of one run.
        StoreError: a folder cannot be read or the new one not written.
    """
    shards = _shards(folders)
    count = int(folders[0].manifest["shard"]["count"])
    missing = [i for i in range(count) if i not in shards]
    first = next(iter(shards.values()))
    manifest = {k: v for k, v in first.manifest.items() if k not in ("run_id", "status", "host", "files", "ended")}
    manifest.update(
        shard={"index": 0, "count": 1},
        missing_shards=missing,
        merged_from={
            str(i): {
                "run_id": f.run_id,
                "host": f.manifest.get("host"),
                "clock_offset": f.manifest.get("clock_offset"),
                "start_lateness_s": _start_lateness(f),
                "idle_round_trip_s": f.manifest.get("idle_round_trip_s"),
            }
            for i, f in shards.items()
        },
        idle_round_trip_s=max(
            (f.manifest["idle_round_trip_s"] for f in shards.values() if f.manifest.get("idle_round_trip_s")),
            default=None,
        ),
        command=shlex.join(["llm-d-benchmark", "merge", *(str(f.path) for f in folders)]),
    )
    writer = RunWriter.create(output, name="merged", config_yaml=first.config_text, manifest=manifest)
    for index, folder in shards.items():
        for part in folder.part_files:
            _link(part, writer.path / "records" / f"shard-{index:03}-{part.name}")
    for event in [*_samples(shards, writer.path / SAMPLES), *_events(shards, missing)]:
        writer.event(event)
    whole = not missing and all(f.complete for f in shards.values())
    asyncio.run(writer.close("ok" if whole else "partial"))
    return writer.path


def _shards(folders: Sequence[RunFolder]) -> dict[int, RunFolder]:
    if not folders:
        raise ConfigError("nothing to merge", advice="give the run folders of all shards")
    shards: dict[int, RunFolder] = {}
    for folder in folders:
        shard = folder.manifest.get("shard", {})
        if int(shard.get("count", 1)) < 2:
            raise ConfigError(
                f"{folder.path} is not one shard of several", advice="merge joins runs made with --shard I/N"
            )
        index = int(shard["index"])
        if not 0 <= index < int(shard["count"]):
            raise ConfigError(f"{folder.path} says it is shard {index} of {shard['count']}, which cannot be")
        if index in shards:
            raise ConfigError(f"{shards[index].path} and {folder.path} are the same shard {index}")
        shards[index] = folder
    for key, what in (("config_digest", "configuration"), ("tool_version", "version"), ("start_at", "--start-at")):
        if len({str(f.manifest.get(key)) for f in folders}) > 1:
            raise ConfigError(f"the folders differ in their {what}: they are not shards of one run")
    if len({f.manifest["shard"]["count"] for f in folders}) > 1:
        raise ConfigError("the folders are shards of different numbers of parts")
    return dict(sorted(shards.items()))


def _start_lateness(folder: RunFolder) -> float | None:
    """How long after --start-at this shard's first stage began, by its own clock."""
    start_at = folder.manifest.get("start_at")
    starts = [e.data["start"] for e in folder.events if e.type is EventType.STAGE_START]
    return None if start_at is None or not starts else (min(starts) - int(start_at)) / 1e9


def _link(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(exist_ok=True)
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise StoreError(f"cannot copy {source} to {target}: {error.strerror or error}") from error


def _samples(shards: Mapping[int, RunFolder], to: Path) -> list[Event]:
    """Link the time series of the first shard that has some; a finding where others have some too."""
    having = [i for i, f in shards.items() if f.sample_files]
    if not having:
        return []
    index, *others = having
    for part in shards[index].sample_files:
        _link(part, to / f"shard-{index:03}-{part.name}")
    if not others:
        return []
    finding = Finding(
        "samples_of_one_shard",
        Severity.INFO,
        f"the time series of server, host and GPU are those that shard {index} collected",
        f"what the other shards collected is in {', '.join(str(shards[i].path) for i in others)}",
    )
    return [finding.event(min((e.time for e in shards[index].events), default=0))]


def _events(shards: Mapping[int, RunFolder], missing: Sequence[int]) -> list[Event]:
    begun: dict[int, list[Event]] = {}
    starts: dict[int, list[Event]] = {}
    ends: dict[int, list[Event]] = {}
    rest: list[Event] = []
    seen: set[str] = set()
    for index, folder in shards.items():
        for event in folder.events:
            if event.type is EventType.GENERATOR_START:
                begun.setdefault(event.data["index"], []).append(event)
            elif event.type is EventType.STAGE_START:
                starts.setdefault(event.data["stage"], []).append(event)
            elif event.type is EventType.STAGE_END:
                ends.setdefault(event.data["stage"], []).append(event)
            elif event.type is EventType.CLIENT:
                rest.append(Event(event.type, event.time, {**event.data, "worker": f"{index}/{event.data['worker']}"}))
            elif event.type is EventType.INTERVAL:
                rest.append(Event(event.type, event.time, {**event.data, "shard": index}))
            elif event.type is EventType.ERROR:
                rest.append(event)
            elif event.type is EventType.FINDING and event.data["code"] + event.data["message"] not in seen:
                seen.add(event.data["code"] + event.data["message"])
                rest.append(event)
    # The stages behind it are a generator's: the earliest of the shards comes before the earliest start of its stages.
    rest += (min(events, key=lambda e: e.time) for events in begun.values())
    for stage, events in starts.items():
        rest.append(Event(EventType.STAGE_START, min(e.time for e in events), _start(events)))
        if spread := _spread(events):
            rest.append(spread.event(max(e.time for e in events)))
        if len(ends.get(stage, [])) == len(events):
            rest.append(Event(EventType.STAGE_END, max(e.time for e in ends[stage]), _end(ends[stage])))
    last = max((e.time for e in rest), default=0)
    whole = not missing and all(f.complete for f in shards.values())
    state = "end" if whole else "failed"
    return [*sorted(rest, key=lambda e: e.time), Event(EventType.PHASE, last, {"phase": "benchmark", "state": state})]


def _start(events: Sequence[Event]) -> dict[str, Any]:
    return {**events[0].data, "start": min(e.data["start"] for e in events)}


def _end(events: Sequence[Event]) -> dict[str, Any]:
    """One end of the stage for all shards; see ``merge`` for the window."""
    data = [e.data for e in events]
    shared = min if all(d["reason"] == "duration" for d in data) else max
    reasons = [d["reason"] for d in data]
    return {
        "stage": data[0]["stage"],
        "start": min(d["start"] for d in data),
        "load_end": max(d["load_end"] for d in data),
        "end": max(d["end"] for d in data),
        "window_start": max(d["window_start"] for d in data),
        "window_end": shared(d["window_end"] for d in data),
        "reason": "interrupted" if "interrupted" in reasons else reasons[0],
    }


def _spread(events: Sequence[Event]) -> Finding | None:
    starts = [e.data["start"] for e in events]
    spread = max(starts) - min(starts)
    if spread <= START_TOLERANCE_NS:
        return None
    return Finding(
        "shard_starts",
        Severity.WARNING,
        f"the shards of stage {events[0].data['stage']} started {spread / 1e9:.3f} s apart",
        "give every machine the same --start-at and keep their clocks in step (NTP)",
    )
