"""regression.json, comparison.json, trend.json, study.json, advice, capacity.json: types as JSON, and their schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..domain.capacity import CapacityPlan
from ..domain.comparison import COMPARISON_SCHEMA_VERSION, Comparison, History, RegressionResult
from ..domain.errors import StoreError
from ..domain.study import RunAdvice, StudyResult

T = TypeVar("T", RegressionResult, Comparison, History, StudyResult, RunAdvice, CapacityPlan)
SCHEMA_FILES: Mapping[type[Any], str] = MappingProxyType(
    {
        RegressionResult: "regression-1.schema.json",
        Comparison: "comparison-1.schema.json",
        History: "trend-1.schema.json",
        StudyResult: "study-1.schema.json",
        RunAdvice: "advice-1.schema.json",
        CapacityPlan: "capacity-1.schema.json",
    }
)
SCHEMA_BASE = "https://llm-d.io/schemas/llm-d-benchmark/"


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def to_json(value: RegressionResult | Comparison | History | StudyResult | RunAdvice | CapacityPlan) -> str:
    """JSON text with every number in full."""
    data = _adapter(type(value)).dump_python(value, mode="python")
    return json.dumps(data, indent=2, allow_nan=False, default=_plain) + "\n"


def _plain(value: object) -> Any:
    item = getattr(value, "item", None)
    if item is not None:
        return item()  # a numpy scalar
    raise TypeError(f"{type(value).__name__} has no place in a comparison")


def from_json(text: str, kind: type[T]) -> T:
    """Read one back.

    Raises:
        StoreError: it is not one, or one of another version.
    """
    try:
        found: T = _adapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"this is no {SCHEMA_FILES[kind]} document: {where}: {first['msg']}") from error
    return found


def make_schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON Schema, generated from the types."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_BASE + SCHEMA_FILES[kind],
        **_adapter(kind).json_schema(mode="serialization"),
        "title": f"llm-d-benchmark {kind.__name__}, schema version {COMPARISON_SCHEMA_VERSION}",
    }


def published_schema(kind: type[Any]) -> str:
    """The JSON Schema as it is published with the package."""
    return resources.files("llm_d_benchmark.store").joinpath(SCHEMA_FILES[kind]).read_text()
