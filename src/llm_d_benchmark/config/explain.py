"""Validation, and errors that say where, which key, what is wrong, what is allowed and what was probably meant."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..domain.errors import ConfigError
from .model import BenchmarkConfig
from .paths import Path, format_path
from .secrets import looks_secret
from .shape import BLOCKS, SHORTHANDS
from .spelling import closest, nearest
from .tree import Node

Loc = tuple[int | str, ...]


def validate(document: Node) -> BenchmarkConfig:
    """The configuration a document describes.

    Raises:
        ConfigError: every mistake, one a line, each with file, line and key.
    """
    try:
        return BenchmarkConfig.model_validate(document.plain())
    except ValidationError as error:
        messages = dict.fromkeys(explain(document, detail) for detail in error.errors(include_url=False))
        raise ConfigError(
            "\n".join(sorted(messages, key=_line)),
            advice="the keys and their values are listed in docs/configuration.md",
        ) from None


def _line(message: str) -> tuple[str, int]:
    m = re.match(r"(.*?):(\d+): ", message)
    return (m[1], int(m[2])) if m else ("", 0)


def explain(document: Node, detail: ErrorDetails) -> str:
    """One error as ``file:line: key: what is wrong``."""
    loc = _real_path(document, detail)
    named, text = _named(loc, detail)
    loc = (*loc, *named)
    node, path = _where(document, loc)
    prefix = f"{node.origin}: {format_path(loc)}" if loc else node.origin
    kind = detail["type"]
    if kind == "extra_forbidden":
        return f"{prefix}: {_unknown_key(path)}"
    if kind == "literal_error":
        return f"{prefix}: {_not_allowed(detail)}"
    if kind == "missing":
        hint = "; --url gives it, too" if loc[-2:] == ("existing", "url") else ""
        return f"{prefix}: this key is missing{hint}"
    if node.value is None and detail["input"] is None:
        return f"{prefix}: there is no value; give one or remove the key"
    return f"{prefix}: {text or _message(detail, loc)}"


def _named(loc: Loc, detail: ErrorDetails) -> tuple[Loc, str]:
    """What a check of a whole block begins its message with, ``key.below: text``: the key that it is about."""
    if detail["type"] != "value_error":
        return (), ""
    text = detail["msg"].removeprefix("Value error, ")
    said = re.match(r"([a-z0-9_.]+): (.*)", text, re.DOTALL)
    block = model_at(loc)
    if said is None or block is None or said[1].split(".")[0] not in block.model_fields:
        return (), text
    return tuple(said[1].split(".")), said[2]


def _message(detail: ErrorDetails, loc: Loc) -> str:
    text = detail["msg"]
    text = (
        text.replace("a valid integer", "a whole number")
        .replace("Input should be", "this should be")
        .replace("a valid dictionary or instance of", "keys of")
    )
    text = text.replace("a valid dictionary", "a mapping of keys").replace("a valid ", "a ")
    value = detail["input"]
    hidden = any(isinstance(p, str) and looks_secret(p) for p in loc)
    shown = "" if hidden or isinstance(value, dict | list) else f", not {value!r}"
    return text[0].lower() + text[1:] + shown


def _real_path(document: Node, detail: ErrorDetails) -> Loc:
    """``loc`` without what pydantic adds for unions and mapping keys."""
    path: list[int | str] = []
    node: Node | None = document
    loc = detail["loc"]
    for i, part in enumerate(loc):
        child = node.get(part) if node is not None else None
        if child is not None:
            path.append(part)
            node = child
        elif i == len(loc) - 1 and detail["type"] == "missing":
            path.append(part)
    return tuple(path)


def _where(document: Node, loc: Loc) -> tuple[Node, Path]:
    """The node nearest to ``loc`` that exists, and ``loc`` itself."""
    node = document
    for end in range(len(loc), -1, -1):
        found = document.get(*loc[:end])
        if found is not None:
            node = found
            break
    return node, loc


def _unknown_key(path: Path) -> str:
    key = str(path[-1])
    model = model_at(path[:-1])
    allowed = list(model.model_fields) if model else []
    meant = closest(key, [*allowed, *BLOCKS, *SHORTHANDS] if len(path) == 1 else allowed)
    hint = f"; did you mean '{meant}'?" if meant else _elsewhere(key)
    return f"unknown key '{key}'{hint} (allowed: {', '.join(allowed)})"


def _elsewhere(key: str) -> str:
    places = [format_path(p) for p, _ in walk(BenchmarkConfig) if p and p[-1] == key]
    return f"; it exists as {places[0]}" if places else ""


def _not_allowed(detail: ErrorDetails) -> str:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    allowed = [w.strip("' ") for w in expected.replace(" or ", ", ").split(",")]
    value = detail["input"]
    hint = nearest(value, allowed) if isinstance(value, str) else ""
    return f"{value!r} is not allowed{hint} (allowed: {', '.join(allowed)})"


def model_at(path: Path) -> type[BaseModel] | None:
    """The model that the keys below ``path`` belong to, None where they are free."""
    current: Any = BenchmarkConfig
    for part in path:
        current = _step(current, part)
    return next(iter(models_in(current)), None)


def _step(annotation: Any, part: str | int) -> Any:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            field = option.model_fields.get(str(part))
            if field is not None:
                return field.annotation
        elif typing.get_origin(option) in (list, dict):
            return typing.get_args(option)[-1]
    return None


def _options(annotation: Any) -> Iterator[Any]:
    """The members of a union, without Annotated."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _options(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for arg in typing.get_args(annotation):
            yield from _options(arg)
    elif annotation is not None:
        yield annotation


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models that a value of this type may be."""
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            yield option


def walk(model: type[BaseModel], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every key below a model with its FieldInfo, in order; ``*`` stands for list positions and free names."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        yield here, field
        annotation, below = field.annotation, here
        for option in list(_options(annotation)):
            inner = option
            below = here
            while typing.get_origin(inner) in (list, dict):
                inner = next(_options(typing.get_args(inner)[-1]))
                below = (*below, "*")
            for child in models_in(inner):
                yield from walk(child, below)
