"""Writes a run folder while the run goes on, so that whatever happens, what was measured is there."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import platform
import re
import secrets as random
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from ..domain.errors import StoreError
from ..domain.events import Event
from ..domain.records import Labels, Records
from ..domain.redaction import redacted
from ..domain.samples import Samples
from .files import digest, redact_file, remedy, write_text
from .parquet import write_records
from .samples import write_samples

MANIFEST_VERSION = "1"
PART_AGE_S = 4.0
PART_ROWS = 20_000
PART_CHUNKS = 8_000_000
PART_SAMPLES = 100_000
SAMPLES_PATIENCE = 5
SAMPLES = "samples"


class RunWriter:
    """One run folder being written. Records are appended, events are written line by line, texts as a whole."""

    def __init__(self, path: Path, manifest: Mapping[str, Any], secrets: Iterable[str] = ()) -> None:
        self.path = path
        self._secrets = tuple(s for s in secrets if s)
        self._manifest = dict(manifest)
        self._waiting: list[Records] = []
        self._since = 0.0
        self._part = 0
        self._lock = asyncio.Lock()
        self._aging: asyncio.Task[None] | None = None
        self._samples: list[Samples] = []
        self._samples_since = 0.0
        self._samples_part = 0
        self._thread = ThreadPoolExecutor(1, "records", _step_back)
        # Unbuffered: what a full disk refused is not tried again at the end.
        self._events = (path / "events.jsonl").open("ab", buffering=0)
        self._events_broken = False
        self._write_manifest()

    @staticmethod
    def create(
        output: Path, *, name: str, config_yaml: str, manifest: Mapping[str, Any], secrets: Iterable[str] = ()
    ) -> RunWriter:
        """Make a new run folder under ``output``.

        Raises:
            StoreError: the folder cannot be made.
        """
        run_id = new_run_id(name)
        path = output / run_id
        try:
            (path / "records").mkdir(parents=True)
            writer = RunWriter(
                path,
                {
                    "manifest_version": MANIFEST_VERSION,
                    "run_id": run_id,
                    "status": "running",
                    **manifest,
                    "host": host(),
                },
                secrets,
            )
        except OSError as error:
            raise StoreError(f"cannot make {path}: {error.strerror or error}", advice=remedy(error)) from error
        writer.write_text("config.yaml", config_yaml)
        return writer

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def log_dir(self) -> Path:
        return self.path / "logs"

    async def append(self, records: Records) -> None:
        """Keep records; a part is written when its oldest record is a few seconds old or it is large.

        Raises:
            StoreError: the disk is full; parts written before stay.
        """
        if not len(records):
            return
        if not self._waiting:
            self._since = time.monotonic()
            self._aging = asyncio.create_task(self._flush_when_old())
        self._waiting.append(records)
        rows = sum(map(len, self._waiting))
        chunks = sum(len(r.ragged("chunk_times").values) for r in self._waiting)
        if rows >= PART_ROWS or chunks >= PART_CHUNKS or time.monotonic() - self._since >= PART_AGE_S:
            await self.flush()

    async def _flush_when_old(self) -> None:
        """A quiet server must not keep records from the disk. A failure shows in the next append or flush."""
        await asyncio.sleep(PART_AGE_S)
        with suppress(StoreError):
            await self.flush()

    async def flush(self) -> None:
        """Write what is waiting.

        Raises:
            StoreError: the disk is full.
        """
        async with self._lock:
            count = len(self._waiting)
            if count:
                waiting = self._waiting[:count]
                part = self.path / "records" / f"part-{self._part:05}.parquet"
                await asyncio.get_running_loop().run_in_executor(
                    self._thread, lambda: write_records(self._told(Records.concat(waiting)), part)
                )
                # only now: what could not be written is tried again by the next flush
                self._part += 1
                del self._waiting[:count]
                self._since = time.monotonic()

    def _told(self, records: Records) -> Records:
        """Without secrets where a server or a program says in its own words what went wrong."""
        errors = records.labels("error")
        if all(redacted(name, self._secrets) == name for name in errors.names):
            return records
        said = (None if e is None else redacted(e, self._secrets) for e in errors.to_list())
        return Records({**records.columns, "error": Labels.from_list(said)})

    async def append_samples(self, samples: Samples) -> None:
        """Keep samples; a part is written when there are many, or the oldest is some seconds old.

        Raises:
            StoreError: the disk is full; parts written before stay.
        """
        if not len(samples):
            return
        if not self._samples:
            self._samples_since = time.monotonic()
        self._samples.append(samples)
        if (
            sum(map(len, self._samples)) >= PART_SAMPLES
            or time.monotonic() - self._samples_since >= PART_AGE_S * SAMPLES_PATIENCE
        ):
            await self.flush_samples()

    async def flush_samples(self) -> None:
        """Write the samples that wait.

        Raises:
            StoreError: the disk is full.
        """
        waiting, self._samples = self._samples, []
        if waiting:
            self._samples_part += 1
            path = self.path / SAMPLES / f"part-{self._samples_part:05}.parquet"
            await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: _write_samples(Samples.concat(waiting), path)
            )

    def event(self, event: Event) -> None:
        """Append one line to events.jsonl.

        Raises:
            StoreError: the disk is full. It is said once; later events are dropped, so that a run can still clean up.
        """
        if self._events_broken:
            return
        line = json.dumps(event.to_dict(), default=str, separators=(",", ":"))
        try:
            data = (redacted(line, self._secrets) + "\n").encode()
            if self._events.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._events_broken = True
            raise StoreError(f"cannot write events.jsonl: {error.strerror or error}", advice=remedy(error)) from error

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder as a whole.

        Raises:
            StoreError: the disk is full.
        """
        write_text(self.path / name, redacted(text, self._secrets))

    def write_log(self, name: str, text: str) -> None:
        """Write a file under ``logs``.

        Raises:
            StoreError: the disk is full.
        """
        try:
            self.log_dir.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {self.log_dir}: {error.strerror or error}", advice=remedy(error)) from error
        self.write_text(f"{self.log_dir.name}/{name}", text)

    def update_manifest(self, **values: Any) -> None:
        """Add to manifest.json, or change it."""
        self._manifest.update(values)
        self._write_manifest()

    async def close(self, status: str) -> None:
        """Write what is left, and the manifest with the digests of what was measured (not of what is computed from it).

        Raises:
            StoreError: the disk is full; the manifest is written all the same where there is room for it.
        """
        if self._aging is not None:
            self._aging.cancel()
        try:
            await self.flush()
            await self.flush_samples()
        finally:
            self._thread.shutdown()
            self._events.close()
            files = await asyncio.to_thread(self._seal)
            self.update_manifest(status=status, ended=time.time_ns(), files=files)

    def _seal(self) -> dict[str, str]:
        """Take secrets out of the logs that others wrote; the digest of every measured file."""
        logs = [p for p in sorted(self.log_dir.rglob("*")) if p.is_file()]
        if self._secrets:
            for log in logs:
                redact_file(log, self._secrets)
        measured = [self.path / "config.yaml", self.path / "events.jsonl", *logs]
        measured += sorted((self.path / "records").glob("*.parquet"))
        measured += sorted((self.path / SAMPLES).glob("*.parquet"))
        return {str(p.relative_to(self.path)): digest(p) for p in measured if p.is_file()}

    def _write_manifest(self) -> None:
        self.write_text("manifest.json", json.dumps(self._manifest, indent=2, default=str) + "\n")


def new_run_id(name: str) -> str:
    """A run id that sorts by time and says what it is: 20261124-113000-demo-3f2a."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{slug}-{random.token_hex(2)}"


def host() -> dict[str, Any]:
    """What the client ran on; no names or addresses."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _write_samples(samples: Samples, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    write_samples(samples, path)


def _step_back() -> None:
    """Lower this thread's priority: on a core it shares with the load it would hold up a read for milliseconds."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process's
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
