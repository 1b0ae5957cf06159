"""Field types that several configuration models share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from ..domain.quantities import parse_bytes, parse_duration

Seconds = Annotated[float, BeforeValidator(parse_duration)]
"""A duration in seconds: a number, or text such as "30m", "500ms", "1h30m"."""

ByteSize = Annotated[int, BeforeValidator(parse_bytes)]
"""A size in bytes: a number, or text such as "256Gi", "512MB"."""


class Model(BaseModel):
    """Base of every configuration model: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, str_strip_whitespace=True)


JsonObject = dict[str, Any]
