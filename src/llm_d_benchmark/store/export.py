"""Runs in one file: their metrics as a table, or their folders as an archive."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..domain.errors import ConfigError, StoreError
from .files import write_text
from .index import IndexedRun

HEADER = ("run_id", "name", "status", "simulated", "started", "model", "target", "labels", "stage", "stage_name",
          "load_generator", "load", "metric", "value", "unit", "path")  # fmt: skip


def write_export(runs: Sequence[IndexedRun], output: Path) -> None:
    """Write ``output``; its ending says what: csv or json (metrics), zip, tar or tar.gz (folders).

    Raises:
        ConfigError: another ending.
        StoreError: it cannot be written.
    """
    ending = output.name.lower()
    if ending.endswith(".csv"):
        write_text(output, _csv(runs))
    elif ending.endswith(".json"):
        write_text(output, json.dumps([dict(zip(HEADER, row, strict=True)) for row in _rows(runs)], indent=1))
    elif ending.endswith((".zip", ".tar", ".tar.gz", ".tgz")):
        _archive(runs, output)
    else:
        raise ConfigError(
            f"--output {output}: what is it to be?", advice="end it with .csv, .json, .zip, .tar or .tar.gz"
        )


def _rows(runs: Sequence[IndexedRun]) -> Iterator[tuple[object, ...]]:
    for run in runs:
        labels = ",".join(f"{k}={v}" for k, v in sorted(run.labels.items()))
        about = (run.run_id, run.name, run.status, run.simulated, run.started, run.model or "", run.target, labels)
        for s in run.stages:
            for metric, (value, unit) in s.metrics.items():
                yield (*about, s.index, s.name, s.load_generator, s.load, metric, value, unit, str(run.path))


def _csv(runs: Sequence[IndexedRun]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(_rows(runs))
    return out.getvalue()


def _archive(runs: Sequence[IndexedRun], output: Path) -> None:
    """Every file of every run under the run's id; complete or not at all."""
    partial = output.with_name(output.name + ".partial")
    try:
        if output.suffix == ".zip":
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                for file, name in _files(runs):
                    archive.write(file, name)
        else:
            with tarfile.open(partial, "w" if output.suffix == ".tar" else "w:gz") as archive:
                for file, name in _files(runs):
                    archive.add(file, name, recursive=False)
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {output}: {error.strerror or error}", advice="is there space left?") from error


def _files(runs: Sequence[IndexedRun]) -> Iterator[tuple[Path, str]]:
    for run in runs:
        for file in sorted(run.path.rglob("*")):
            if file.is_file() and not file.is_symlink():
                yield file, f"{run.path.name}/{file.relative_to(run.path)}"
