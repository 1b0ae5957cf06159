"""Run folders as polars DataFrames, for notebooks ([notebook] extra)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..domain.errors import ConfigError
from .folder import RunFolder
from .result_json import to_json

if TYPE_CHECKING:
    import polars


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise ConfigError(
            "DataFrames need polars, which is not installed", advice="pip install 'llm-d-benchmark[notebook]'"
        ) from None
    return polars


def records_frame(folder: RunFolder, *, columns: Sequence[str] | None = None) -> polars.DataFrame:
    """One row per request, columns as published; times are epoch ns.

    Raises:
        ConfigError: the [notebook] extra is not installed.
        StoreError: the folder has no records.
    """
    pl = _polars()
    files = folder.part_files
    frame: polars.DataFrame = (
        pl.read_parquet(files, columns=list(columns) if columns else None) if files else pl.DataFrame()
    )
    return frame


def events_frame(folder: RunFolder) -> polars.DataFrame:
    """One row per event: time (epoch ns), type, data (JSON text)."""
    pl = _polars()
    rows = [(e.time, str(e.type), json.dumps(dict(e.data), default=str)) for e in folder.events]
    frame: polars.DataFrame = pl.DataFrame(rows, schema=["time", "type", "data"], orient="row")
    return frame


def metrics_frame(folder: RunFolder) -> polars.DataFrame:
    """One row per stage, model (null for all), metric and statistic, with its value and unit."""
    pl = _polars()
    result = json.loads(to_json(folder.result()))
    rows = [
        (stage["index"], stage["name"], model, *row)
        for stage in result["stages"]
        for model, metrics in [(None, stage["metrics"]), *stage["by_model"].items()]
        for row in _rows(metrics)
    ]
    schema = {"stage": pl.Int64, "name": pl.String, "model": pl.String, "metric": pl.String, "statistic": pl.String,
              "value": pl.Float64, "unit": pl.String}  # fmt: skip
    frame: polars.DataFrame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame


def _rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, float, str | None]]:
    for name, value in metrics.items():
        if not isinstance(value, dict):
            continue
        unit = value.get("unit")
        if "value" in value:
            yield name, "value", value["value"], unit
        for statistic in ("count", "mean", "sd", "min", "max"):
            if isinstance(value.get(statistic), int | float):
                yield name, statistic, value[statistic], unit
        for percentile, estimate in value.get("percentiles", {}).items():
            yield name, percentile, estimate["value"], unit
