"""result.json: the types of ``domain.result`` as JSON, back again, and their published JSON Schema."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..domain.errors import StoreError
from ..domain.result import SCHEMA_VERSION, RunResult

SCHEMA_FILE = "result-1.schema.json"
SCHEMA_ID = "https://llm-d.io/schemas/llm-d-benchmark/" + SCHEMA_FILE


@cache
def _adapter() -> TypeAdapter[RunResult]:
    return TypeAdapter(RunResult)


def to_json(result: RunResult) -> str:
    """JSON text with every number in full.

    Raises:
        ValueError: a number is NaN or infinite, which a result never holds.
    """
    return json.dumps(_adapter().dump_python(result, mode="python"), indent=2, allow_nan=False, default=_plain) + "\n"


def _plain(value: object) -> Any:
    item = getattr(value, "item", None)
    if item is not None:
        return item()  # a numpy scalar
    raise TypeError(f"{type(value).__name__} has no place in a result")


def from_json(text: str) -> RunResult:
    """Read a result.

    Raises:
        StoreError: it is not one, or one of another major schema version.
    """
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"result.json does not fit schema {SCHEMA_VERSION}: {where}: {first['msg']}") from error


def make_schema() -> dict[str, Any]:
    """The JSON Schema of result.json, generated from the types."""
    schema = _adapter().json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": f"llm-d-benchmark result, schema version {SCHEMA_VERSION}",
    }


def published_schema() -> str:
    """The JSON Schema as it is published with the package."""
    return resources.files("llm_d_benchmark.store").joinpath(SCHEMA_FILE).read_text()
