"""The JSON Schema of a configuration file, for editors and other programs."""

from __future__ import annotations

from typing import Any

from .model import BenchmarkConfig


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document form."""
    schema = BenchmarkConfig.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
