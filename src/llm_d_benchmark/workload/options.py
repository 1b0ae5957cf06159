"""What the workloads' options have in common, and how a mistake in them is told."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from ..config.fields import Model
from ..config.load import Length
from ..domain.errors import ConfigError

M = TypeVar("M", bound=Model)


def parse(model: type[M], options: Mapping[str, Any]) -> M:
    """Validated options of a workload; ``type`` has been used to choose it.

    Raises:
        ConfigError: names the workload, the key, and what is allowed.
    """
    kind = options.get("type", "synthetic")
    own = {k: v for k, v in options.items() if k != "type"}
    try:
        return model.model_validate(own)
    except ValidationError as error:
        lines = [_line(str(kind), model, problem) for problem in error.errors()]
        raise ConfigError("\n".join(lines), advice="docs/workloads.md lists the keys of each workload") from None


def _line(kind: str, model: type[Model], problem: Mapping[str, Any]) -> str:
    key = ".".join(str(p) for p in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"workload '{kind}': {key or 'options'}: {problem['msg'].removeprefix('Value error, ')}"
    if key in ("input_length", "output_length"):
        return f"workload '{kind}' brings its own lengths; leave out '{key}'"
    allowed = sorted(model.model_fields)
    close = difflib.get_close_matches(key, allowed, 1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"workload '{kind}' has no key '{key}'{hint} It takes: {', '.join(allowed) or 'none'}"


def fixed(value: int) -> Length:
    """A length that is always the same."""
    return Length(distribution="fixed", value=value)
