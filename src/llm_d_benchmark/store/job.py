"""A job of several runs as a folder: job.json says what there is to do and what was done, ``runs/`` holds the runs.

job.json is written after every run, so that an interrupted job goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..domain.errors import ConfigError, StoreError
from .files import remedy, write_text
from .writer import new_run_id

JobStatus = Literal["running", "done", "interrupted", "failed"]
JOB_VERSION = "1"
FILE = "job.json"


class JobFolder:
    """A job on disk; ``facts`` are what its kind keeps of it, ``runs`` one entry for each run, in order."""

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        self.path = path
        self._data = dict(data)

    @staticmethod
    def create(output: Path, *, kind: str, name: str, config_yaml: str, facts: Mapping[str, Any]) -> JobFolder:
        """Make a new job folder under ``output``.

        Args:
            kind: regression, ...; a job is taken up only by what made it.

        Raises:
            StoreError: the folder cannot be made.
        """
        path = output / new_run_id(name)
        try:
            (path / "runs").mkdir(parents=True)
        except OSError as error:
            raise StoreError(f"cannot make {path}: {error.strerror or error}", advice=remedy(error)) from error
        job = JobFolder(
            path,
            {"job_version": JOB_VERSION, "job_id": path.name, "kind": kind, "name": name, "started": time.time_ns()},
        )
        job.write_text("config.yaml", config_yaml)
        job.update(status="running", facts=dict(facts), runs=[])
        return job

    @staticmethod
    def open(path: Path, kind: str) -> JobFolder:
        """Open a job folder.

        Raises:
            StoreError: it is none, or one of another kind.
        """
        try:
            data = json.loads((path / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"{path} is not the folder of a job: it has no {FILE}") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {path / FILE}: {error}") from error
        if not isinstance(data, dict) or data.get("kind") != kind:
            found = data.get("kind") if isinstance(data, dict) else None
            raise StoreError(f"{path} is the folder of a job of kind '{found}', not '{kind}'")
        return JobFolder(path, data)

    @staticmethod
    def take_up(path: Path, kind: str, *, same: Mapping[str, Any]) -> JobFolder:
        """Open a job folder to go on with it.

        Args:
            same: facts that must be as they were.

        Raises:
            StoreError: it is none, or one of another kind.
            ConfigError: it is a job of another configuration.
        """
        job = JobFolder.open(path, kind)
        if any(job.facts.get(name) != value for name, value in same.items()):
            raise ConfigError(
                f"{path} is a study of another configuration",
                advice=f"give the same -c and --set as when it was started, or its own: -c {path / 'config.yaml'}",
            )
        return job

    @property
    def job_id(self) -> str:
        return str(self._data["job_id"])

    @property
    def name(self) -> str:
        return str(self._data["name"])

    @property
    def started(self) -> int:
        """Epoch ns."""
        return int(self._data["started"])

    @property
    def status(self) -> JobStatus:
        """How it stands; a job that was killed is still "running"."""
        found: JobStatus = self._data["status"]
        return found

    @property
    def ended(self) -> int | None:
        """Epoch ns; None of a job that has not ended."""
        found: int | None = self._data.get("ended")
        return found

    @property
    def facts(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._data["facts"]
        return found

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self._data["runs"]
        return found

    @property
    def runs_dir(self) -> Path:
        return self.path / "runs"

    @property
    def current(self) -> Mapping[str, Any] | None:
        """The run that was begun and not noted as ended: of a job that was killed, the one it was at."""
        found: Mapping[str, Any] | None = self._data.get("current")
        return found

    def begin_run(self, **entry: Any) -> None:
        """Note what a run is for before it starts."""
        self.update(current=entry)

    def add_run(self, **entry: Any) -> None:
        """Note a run that ended, whatever became of it."""
        self.update(runs=[*self.runs, entry], current=None)

    def unlisted(self) -> list[Path]:
        """Run folders that are not noted, in order."""
        listed = {entry["run"] for entry in self.runs}
        return sorted(p.parent for p in self.runs_dir.glob("*/manifest.json") if p.parent.name not in listed)

    def add_facts(self, **values: Any) -> None:
        self.update(facts={**self.facts, **values})

    def update(self, **values: Any) -> None:
        """Change keys of job.json.

        Raises:
            StoreError: it cannot be written.
        """
        self._data.update(values)
        self.write_text(FILE, json.dumps(self._data, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder as a whole.

        Raises:
            StoreError: the disk is full.
        """
        write_text(self.path / name, text)

    def read_text(self, name: str) -> str:
        """Raises StoreError where there is no such file."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as error:
            raise StoreError(f"cannot read {self.path / name}: {error.strerror}") from error
