"""``import``: results that other tools left become an ordinary run folder, which everything later works on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config.model import BenchmarkConfig
from ..config.source import write_text
from ..config.spelling import nearest
from ..domain.errors import ConfigError, GeneratorError
from ..domain.events import Event, EventType, Finding, Severity
from ..domain.records import Records
from ..domain.result import RunResult
from ..domain.schedule import Load, Shard, Stage
from ..domain.version import VERSION
from ..loadgen import llmd_report
from ..loadgen import registry as generators
from ..loadgen.external.api import Adapter, NativeResult, NativeStage
from ..loadgen.external.reading import Reader, read, seen
from ..loadgen.external.stage import interval_events, numbered
from ..store.files import digest
from ..store.writer import RunWriter
from .finish import analyze_and_report

AUTO = "auto"
MOST_FILES = 200
"""Digests of more files than this say nothing to anybody; the rest are counted."""
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


@dataclass(slots=True)
class _Placed:
    """One stage of an import: the plan, when it ran (epoch ns), and what the tool left of it."""

    generator: int
    tool: str
    version: str | None
    stage: Stage
    native: NativeStage
    records: Records | None
    start: int
    end: int
    findings: list[Finding] = field(default_factory=list)


def readers() -> dict[str, Reader]:
    """What results can be read, by the tool that wrote them. One that cannot be loaded says so when it is used."""
    found: dict[str, Reader] = {llmd_report.NAME: llmd_report.parse}
    for name in generators.available():
        try:
            adapter = generators.load_generator(name)
        except GeneratorError as error:
            found[name] = _broken(error)
            continue
        if isinstance(adapter, Adapter):
            found[name] = _one(adapter)
    return dict(sorted(found.items()))


def _broken(error: GeneratorError) -> Reader:
    def refuse(_: Path) -> Sequence[NativeResult]:
        raise error

    return refuse


def _one(adapter: Adapter) -> Reader:
    return lambda path: [adapter.parse(path)]


def read_results(tool: str, path: Path) -> list[NativeResult]:
    """The results at ``path``.

    Args:
        tool: who wrote them; ``auto`` finds that out.

    Raises:
        ConfigError: there is no such path or tool, or several tools could have written it.
        GeneratorError: they are not what ``tool`` writes; the message says what was looked for.
    """
    known = readers()
    if not path.exists():
        raise ConfigError(f"{path} does not exist", advice="give the file or folder that the tool wrote")
    if path.is_file() and (packed := _packed(path)):
        raise ConfigError(f"{path} is compressed ({packed})", advice="unpack it, and give what was in it")
    if tool != AUTO:
        if tool not in known:
            raise ConfigError(
                f"--from {tool}: not known{nearest(tool, known)}", advice=f"one of: {AUTO}, {', '.join(known)}"
            )
        return read(known[tool], tool, path)
    found: dict[str, list[NativeResult]] = {}
    refused: list[str] = []
    for name, reader in known.items():
        try:
            found[name] = read(reader, name, path)
        except GeneratorError as error:
            refused.append(f"{name}: {error.message}")
    if not found:
        raise GeneratorError(
            f"{path} holds no results of a known tool\n" + "\n".join(refused),
            advice="give the file or folder that the tool itself wrote, and name the tool with --from TOOL",
        )
    if len(found) > 1:
        names = " and ".join(found)
        raise ConfigError(f"{path} holds results of {names}", advice=f"choose with --from {next(iter(found))}")
    return next(iter(found.values()))


def _packed(path: Path) -> str | None:
    """How a file is compressed, by its first bytes."""
    with path.open("rb") as file:
        first = file.read(8)
    return next((name for magic, name in _PACKED.items() if first.startswith(magic)), None)


def import_results(
    sources: Sequence[tuple[str, Path]], output: Path, *, name: str | None = None, command: str = ""
) -> tuple[Path, RunResult]:
    """Make a run folder of results that others measured; several tools' results become one, set side by side.

    Args:
        sources: tool (or ``auto``) and path of each.

    Returns:
        the run folder and its result.

    Raises:
        ConfigError, GeneratorError: as ``read_results``.
        StoreError: the folder cannot be written.
    """
    results = [result for tool, path in sources for result in read_results(tool, path)]
    placed = list(_placed(results, fallback=min(_modified(path) for _, path in sources)))
    title = name or "-".join(dict.fromkeys(r.tool for r in results)) + "-import"
    return asyncio.run(_write(results, placed, sources, output, title, command))


def _placed(results: Sequence[NativeResult], fallback: int) -> Iterator[_Placed]:
    index = 0
    for position, result in enumerate(results):
        for native in result.stages:
            stage = _stage(index, native)
            records = None
            if native.records is not None and len(native.records):
                records = numbered(native.records, stage, Shard(), result.model)
            window = native.window or (None if records is None else seen(records))
            start, end = window or (fallback, fallback)
            if records is not None and end == _last(records):
                end += 1  # a window does not hold its end, and the last answer is not to be lost
            one = _Placed(position, result.tool, result.version, stage, native, records, start, end)
            if window is None:
                text = f"{result.tool}, {native.name}: its result does not tell when it was measured, or for how long"
                one.findings.append(Finding("no_window", Severity.INFO, text, "the date shown is that of the file"))
            yield one
            index += 1


def _stage(index: int, native: NativeStage) -> Stage:
    """The plan as far as the result tells it; an unknown load has the arrival ``unknown``."""
    told = native.load
    rate, concurrency = told.get("rate"), told.get("concurrency")
    arrival = told.get("arrival")
    kind: dict[str, Any] = dict(arrival) if isinstance(arrival, Mapping) else {"type": str(arrival or "unknown")}
    load = Load(
        rate=float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None,
        concurrency=int(concurrency) if isinstance(concurrency, int | float) and 1 <= concurrency < math.inf else None,
        arrival=kind,
    )
    if load.rate is None and load.concurrency is None and not load.open_loop:
        load = replace(load, arrival={"type": "unknown"})
    streaming = True if native.records is None else bool(native.records.bools("streaming").any())
    return Stage(index, native.name, load, streaming=streaming, endpoint=str(told.get("endpoint", "unknown")))


def _last(records: Records) -> int:
    return int(records.ints("end").max())


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns


async def _write(
    results: Sequence[NativeResult],
    placed: Sequence[_Placed],
    sources: Sequence[tuple[str, Path]],
    output: Path,
    name: str,
    command: str,
) -> tuple[Path, RunResult]:
    model = next((r.model for r in results if r.model), None)
    url = next((r.url for r in results if r.url), None)
    writer = RunWriter.create(
        output,
        name=name,
        config_yaml=write_text(_config(name, placed, url, model).to_dict()),
        manifest={
            "tool_version": VERSION,
            "command": command,
            "simulated": False,
            "started": min((p.start for p in placed), default=0),
            "shard": {"index": 0, "count": 1},
            "imported": {
                "tools": [{"tool": r.tool, "version": r.version} for r in results],
                "files": {k: v for _, path in sources for k, v in _digests(path).items()},
            },
            "target": {"type": "existing", "url": url or "", "model": model, "server": None, "fingerprint": ""},
        },
    )
    status = "failed"
    try:
        for event in _events(results, placed):
            writer.event(event)
        for one in placed:
            if one.records is not None:
                await writer.append(one.records)
        await writer.flush()
        result = await asyncio.to_thread(analyze_and_report, writer.path)
        status = result.status
    finally:
        await writer.close(status)
    return writer.path, result


def _config(name: str, placed: Sequence[_Placed], url: str | None, model: str | None) -> BenchmarkConfig:
    """What is known of the load, as a configuration. Its workload, ``imported``, can be shown, but not run."""
    by_generator: dict[int, list[_Placed]] = {}
    for one in placed:
        by_generator.setdefault(one.generator, []).append(one)
    listed = [
        {"type": own[0].tool, "config": {"workload": {"type": "imported"}, "stages": [_shape(p) for p in own]}}
        for own in by_generator.values()
    ]
    benchmark = {"load_generators": listed} if listed else {}
    known = url is not None and url.startswith(("http://", "https://"))
    target = {"target": {"type": "existing", "existing": {"url": url, "model": model}}} if known else {}
    return BenchmarkConfig.model_validate({"metadata": {"name": name}, "spec": {**target, "benchmark": benchmark}})


def _shape(one: _Placed) -> dict[str, Any]:
    load = one.stage.load
    shape: dict[str, Any] = {"name": one.stage.name, "concurrency": load.concurrency, "request_rate": load.rate}
    if load.rate is not None and load.arrival["type"] in ("constant", "poisson", "gamma"):
        shape["arrival"] = {k: v for k, v in load.arrival.items() if k in ("type", "burstiness")}
    if one.end > one.start:
        shape["duration"] = (one.end - one.start) / 1e9
    return {k: v for k, v in shape.items() if v is not None}


def _digests(path: Path) -> dict[str, str]:
    if path.is_file():
        return {path.name: digest(path)}
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    found = {str(p.relative_to(path.parent)): digest(p) for p in files[:MOST_FILES]}
    return found if len(files) <= MOST_FILES else {**found, "...": f"{len(files) - MOST_FILES} more"}


def _events(results: Sequence[NativeResult], placed: Sequence[_Placed]) -> Iterator[Event]:
    """The events that such a run would have left."""
    first = min((p.start for p in placed), default=0)
    last = max((p.end for p in placed), default=0)
    yield Event(EventType.PHASE, first, {"phase": "benchmark", "state": "start"})
    for result in results:
        for finding in result.findings:
            yield finding.event(first)
    yield _unknown_client(results).event(first)
    begun = -1
    for one in placed:
        if one.generator != begun:
            begun = one.generator
            yield Event(EventType.GENERATOR_START, one.start, {"generator": one.tool, "index": begun})
        yield from _stage_events(one)
    yield Event(EventType.PHASE, last, {"phase": "benchmark", "state": "end", "seconds": (last - first) / 1e9})


def _stage_events(one: _Placed) -> Iterator[Event]:
    plan = one.stage.to_dict() | {"label": one.stage.load.label()}
    index = one.stage.index
    tool = {"name": one.tool, "version": one.version}
    data = {"stage": index, "generator": one.tool, **plan, "start": one.start, "tool": tool}
    yield Event(EventType.STAGE_START, one.start, data)
    for finding in one.findings:
        yield finding.event(one.end)
    if one.records is not None:
        yield from interval_events(one.records, index, one.start)
    bounds = {"start": one.start, "load_end": one.end, "end": one.end, "window_start": one.start}
    told = {**one.native.told(one.version), "records": one.records is not None}
    known = dict(generators.known_of(one.tool))
    ended = {"stage": index, **bounds, "window_end": one.end, "reason": "imported", "told": told, "known": known}
    yield Event(EventType.STAGE_END, one.end, ended)


def _unknown_client(results: Sequence[NativeResult]) -> Finding:
    tools = ", ".join(dict.fromkeys(r.tool for r in results))
    return Finding(
        "client_unknown",
        Severity.INFO,
        f"imported from {tools}: nothing is known of how late or busy the client was, so validity is not shown by it",
        "run the same load with the native generator to see whether the client was the bottleneck",
    )
