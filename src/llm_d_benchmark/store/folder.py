"""Reads a run folder back, also one that a crash left unfinished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ..analyze.api import RunInput
from ..config.model import BenchmarkConfig
from ..domain.errors import StoreError
from ..domain.events import Event, EventType, Finding, Severity
from ..domain.records import Records
from ..domain.result import RunResult
from ..domain.samples import Samples
from .files import write_text
from .parquet import check_whole, read_records
from .result_json import from_json, to_json
from .samples import read_samples
from .writer import SAMPLES

MARK = "manifest.json"
"""What makes a folder a run folder."""
MAX_DEPTH = 6


def run_folders(root: Path, depth: int = 0) -> Iterator[Path]:
    """Every run folder under ``root``, also those inside a study; ``root`` itself may be one."""
    try:
        entries = {e.name: e for e in root.iterdir()} if depth <= MAX_DEPTH else {}
    except OSError:
        return
    if MARK in entries:
        yield root
        entries = {k: v for k, v in entries.items() if k == "runs"}  # of a study; a run has nothing to look for inside
    for name, entry in sorted(entries.items()):
        if not name.startswith(".") and entry.is_dir() and not entry.is_symlink():
            yield from run_folders(entry, depth + 1)


def runs_at(paths: Iterable[Path]) -> list[Path]:
    """Run folders, and those inside folders that hold some, by name.

    Raises:
        StoreError: a path is neither.
    """
    found: list[Path] = []
    for path in paths:
        found += list(run_folders(path)) or [RunFolder.open(path).path]
    return found


class RunFolder:
    """A run folder as it is on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def open(path: Path) -> RunFolder:
        """Open a run folder.

        Raises:
            StoreError: it is not one; where it holds run folders, they are named.
        """
        if (path / MARK).is_file():
            return RunFolder(path)
        if not path.exists():
            raise StoreError(f"{path} does not exist", advice="give the path of a run folder")
        inside = sorted(p.parent.name for p in path.glob("*/manifest.json")) if path.is_dir() else []
        advice = f"it holds run folders; give one of them, e.g. {path / inside[-1]}" if inside else None
        raise StoreError(f"{path} is not a run folder: it has no manifest.json", advice=advice)

    @property
    def run_id(self) -> str:
        return str(self.manifest.get("run_id", self.path.name))

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        try:
            value = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {self.path / 'manifest.json'}: {error}") from error
        if not isinstance(value, dict):
            raise StoreError(f"{self.path / 'manifest.json'} is not a JSON object")
        return value

    @property
    def config_text(self) -> str:
        try:
            return (self.path / "config.yaml").read_text(encoding="utf-8")
        except OSError as error:
            raise StoreError(f"cannot read {self.path / 'config.yaml'}: {error.strerror}") from error

    @cached_property
    def events(self) -> list[Event]:
        """Every event; a line that a crash or a full disk tore is left out."""
        try:
            lines = (self.path / "events.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise StoreError(f"cannot read {self.path / 'events.jsonl'}: {error.strerror}") from error
        events = []
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                events.append(Event.from_dict(json.loads(line)))
        return events

    @property
    def part_files(self) -> list[Path]:
        return sorted((self.path / "records").glob("*.parquet"))

    @property
    def sample_files(self) -> list[Path]:
        return sorted((self.path / SAMPLES).glob("*.parquet"))

    def parts(self) -> Iterator[Records]:
        """The records in batches of bounded size; parts that are not whole are left out (see ``damage``).

        Raises:
            StoreError: a part is damaged inside.
        """
        broken = self.damage
        for path in self.part_files:
            if path not in broken:
                yield from read_records(path)

    def samples(self) -> Iterator[Samples]:
        """The time series in batches of bounded size; parts that are not whole are left out.

        Raises:
            StoreError: a part is damaged inside.
        """
        for path in self.sample_files:
            if path not in self.damage:
                yield from read_samples(path)

    @cached_property
    def damage(self) -> Mapping[Path, str]:
        """Parts that are no whole Parquet files, and why."""
        found = {}
        for path in (*self.part_files, *self.sample_files):
            try:
                check_whole(path)
            except StoreError as error:
                found[path] = error.message
        return found

    @property
    def complete(self) -> bool:
        """Whether the load ran to its planned end."""
        return any(
            e.type is EventType.PHASE and e.data.get("phase") == "benchmark" and e.data.get("state") == "end"
            for e in self.events
        )

    def result(self) -> RunResult:
        """The content of result.json.

        Raises:
            StoreError: there is none yet, or it is of another version.
        """
        path = self.path / "result.json"
        if not path.is_file():
            raise StoreError(f"{self.path} has no result.json yet", advice=f"llm-d-benchmark analyze {self.path}")
        return from_json(path.read_text(encoding="utf-8"))

    def write_result(self, result: RunResult) -> None:
        self.write_text("result.json", to_json(result))

    def write_text(self, name: str, text: str) -> None:
        write_text(self.path / name, text)


def run_input(folder: RunFolder, config: BenchmarkConfig) -> RunInput:
    """The folder as an analysis takes it."""
    missing = folder.manifest.get("missing_shards", [])
    last = folder.events[-1].time if folder.events else 0
    return RunInput(
        run_id=folder.run_id,
        manifest=folder.manifest,
        config=config,
        events=[*folder.events, *(_damage_finding(m).event(last) for m in folder.damage.values())],
        parts=folder.parts,
        samples=folder.samples,
        complete=folder.complete and not missing and not folder.damage,
        missing_shards=missing,
    )


def _damage_finding(message: str) -> Finding:
    return Finding("damaged_part", Severity.WARNING, message, "its requests are missing from every number")
