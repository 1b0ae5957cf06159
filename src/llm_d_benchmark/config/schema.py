"""The JSON Schema of a configuration file, for editors and other programs."""

from __future__ import annotations

from typing import Any

from .model import BenchmarkConfig
from .shape import LOAD_SPELLINGS


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document form, with the short forms and other spellings that files may use."""
    schema = BenchmarkConfig.model_json_schema(mode="validation")
    definitions: dict[str, Any] = schema["$defs"]
    for name in ("LoadConfig", "StageConfig"):
        properties = definitions[name]["properties"]
        for other, key in LOAD_SPELLINGS.items():
            if key in properties:
                properties[other] = {**properties[key], "description": f"another spelling of {key}"}
    arrival = definitions["Arrival"]
    for key in ("from", "to"):
        arrival["properties"][f"{key}_rate"] = arrival["properties"][key]
    _short(definitions, "Arrival", {"enum": arrival["properties"]["type"]["enum"]})
    _short(definitions, "Length", {"type": "integer", "minimum": 1})
    definitions["TargetConfig"].pop("required", None)
    _short(definitions, "TargetConfig", {"type": "string"})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _short(definitions: dict[str, Any], name: str, form: dict[str, Any]) -> None:
    """Allow a plain value in place of the mapping."""
    definitions[name] = {"anyOf": [form, definitions[name]]}
