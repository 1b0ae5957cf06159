"""Field types that several configuration models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema

from ..domain.quantities import (
    AlertExpression,
    Quantity,
    ResourceQuantity,
    Threshold,
    parse_alert,
    parse_bytes,
    parse_duration,
    parse_quantity,
    parse_resource,
    parse_threshold,
)


class Model(BaseModel):
    """Base of every configuration model: unknown keys are errors, values are immutable, types are not guessed."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        str_strip_whitespace=True,
        strict=True,
        allow_inf_nan=False,
    )


JsonObject = dict[str, Any]
Scalar = bool | int | float | str


def _schema(description: str, *examples: object, number: bool = False) -> WithJsonSchema:
    kind: Any = ["number", "string"] if number else "string"
    return WithJsonSchema({"type": kind, "description": description, "examples": list(examples)})


def _once(kind: type, parse: Callable[[object], Any]) -> PlainValidator:
    """Parse text; take a value that is parsed already as it is."""
    return PlainValidator(lambda value: value if isinstance(value, kind) else parse(value))


def _unit(expected: str) -> Callable[[object], Quantity]:
    examples = {"s": "2000ms", "tokens/s": "50 tokens/s", "USD/token": "$0.001/token"}

    def parse(value: object) -> Quantity:
        quantity = parse_quantity(value)
        if quantity.unit != expected:
            raise ValueError(
                f"'{value}' is in {quantity.unit or 'no unit'}, this needs {expected}; for example {examples[expected]}"
            )
        return quantity

    return parse


def _criterion(value: object) -> Threshold:
    return parse_threshold(value, subjects=("uptime", "success"))


_TEXT = PlainSerializer(str, return_type=str)

Seconds = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=float | str),
    _schema("a duration", "30m", 1800, number=True),
]
"""A duration in seconds: a number, or text such as "30m", "500ms", "1h30m"."""

ByteSize = Annotated[int, BeforeValidator(parse_bytes), _schema("a size in bytes", "256Gi", 1024, number=True)]
"""A size in bytes: a number, or text such as "256Gi", "512MB"."""

Limit = Annotated[
    Threshold, _once(Threshold, parse_threshold), _TEXT, _schema("a comparison", "<2000ms", ">50 tokens/s", "<$0.001")
]
Criterion = Annotated[
    Threshold, _once(Threshold, _criterion), _TEXT, _schema("a comparison", "<5%", ">99.9% uptime", ">99.9% success")
]
Alert = Annotated[AlertExpression, _once(AlertExpression, parse_alert), _TEXT, _schema("an alert", "p95_latency > 5s")]
Latency = Annotated[Quantity, _once(Quantity, _unit("s")), _TEXT, _schema("a duration", "2000ms")]
TokenRate = Annotated[Quantity, _once(Quantity, _unit("tokens/s")), _TEXT, _schema("a token rate", "50 tokens/s")]
TokenPrice = Annotated[Quantity, _once(Quantity, _unit("USD/token")), _TEXT, _schema("a price", "$0.001/token")]
Resource = Annotated[
    ResourceQuantity,
    _once(ResourceQuantity, parse_resource),
    PlainSerializer(lambda r: int(str(r)) if str(r).isdecimal() else str(r), return_type=int | str),
    _schema("a Kubernetes quantity", 8, "500m", "256Gi", number=True),
]
