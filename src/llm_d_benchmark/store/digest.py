"""What the index keeps of a run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .folder import MARK

Row = dict[str, Any]


def stamp(folder: Path) -> str:
    """Changes whenever the folder's result or manifest is written anew."""
    parts = []
    for name in ("result.json", MARK):
        try:
            stat = (folder / name).stat()
            parts.append(f"{stat.st_mtime_ns}:{stat.st_size}")
        except OSError:
            parts.append("-")
    return " ".join(parts)


def digest_run(folder: Path, seen: str) -> tuple[Row, list[Row]] | None:
    """The run's row and those of its stages; None where the folder is no run (a study's own folder, or unreadable)."""
    manifest = _json(folder / MARK)
    if not isinstance(manifest, dict) or "run_id" not in manifest or not (folder / "config.yaml").is_file():
        return None
    result = _json(folder / "result.json")
    result = result if isinstance(result, dict) else {}
    target = result.get("target") or manifest.get("target") or {}
    requests = result.get("requests") or {}
    row = {
        "path": str(folder),
        "run_id": str(manifest["run_id"]),
        "name": str(result.get("name") or manifest["run_id"]),
        "status": str(result.get("status") or ("running" if manifest.get("status") == "running" else "no result")),
        "simulated": bool(result.get("simulated", manifest.get("simulated", False))),
        "started": int(result.get("started") or manifest.get("started") or 0),
        "ended": int(result.get("ended") or manifest.get("ended") or 0),
        "target": str(target.get("type", "")),
        "model": target.get("model"),
        "server": target.get("server"),
        "fingerprint": str(target.get("fingerprint") or ""),
        "tool_version": str(manifest.get("tool_version", "")),
        "config_digest": str(manifest.get("config_digest", "")),
        "slos": _verdict(result.get("slos") or []),
        "requests": int(requests.get("sent", 0)),
        "failed": int(requests.get("failed", 0)),
        "labels": json.dumps(_labels(folder), sort_keys=True),
        "stamp": seen,
    }
    return row, [_stage(str(folder), s) for s in result.get("stages") or []]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _labels(folder: Path) -> Mapping[str, str]:
    """``metadata.labels`` of the configuration, read without the rest of it: it stands at the top of the file."""
    head: list[str] = []
    with (folder / "config.yaml").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("spec:"):
                break
            head.append(line)
    try:
        found = yaml.safe_load("".join(head)) or {}
    except yaml.YAMLError:
        return {}
    labels = (found.get("metadata") or {}).get("labels") if isinstance(found, dict) else None
    return {str(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {}


def _verdict(slos: list[Mapping[str, Any]]) -> str:
    verdicts = {s.get("verdict") for s in slos}
    return next((v for v in ("fail", "inconclusive", "pass") if v in verdicts), "none")


def _stage(path: str, stage: Mapping[str, Any]) -> Row:
    return {
        "path": path,
        "stage": int(stage["index"]),
        "name": str(stage.get("name", "")),
        "load_generator": str(stage.get("load_generator", "")),
        "load": str(stage.get("label", "")),
        "seconds": float((stage.get("window") or {}).get("seconds", 0.0)),
        "metrics": json.dumps(dict(_metrics(stage.get("metrics") or {}))),
    }


def _metrics(metrics: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, str]]]:
    """``ttft.p99`` -> (value, unit), for everything that was measured."""
    for name, value in metrics.items():
        if not isinstance(value, dict):
            continue
        unit = str(value.get("unit", ""))
        if isinstance(value.get("value"), int | float):
            yield name, (value["value"], unit)
        for statistic in ("mean", "sd", "min", "max"):
            if isinstance(value.get(statistic), int | float):
                yield f"{name}.{statistic}", (value[statistic], unit)
        for statistic, percentile in (value.get("percentiles") or {}).items():
            if isinstance(percentile, dict) and isinstance(percentile.get("value"), int | float):
                yield f"{name}.{statistic}", (percentile["value"], unit)
