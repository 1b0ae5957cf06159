"""The command template of a process target."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..config.spelling import nearest
from ..domain.errors import ConfigError

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
OWN = ("host", "port", "model")


def placeholders(command: Sequence[str]) -> set[str]:
    """Names in braces; other braces (JSON arguments) stand for themselves."""
    return {name for part in command for name in PLACEHOLDER.findall(part)}


def render(command: Sequence[str], args: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """The command with every placeholder filled in.

    Args:
        own: host, port and model; a value of None is not known.

    Raises:
        ConfigError: a placeholder has no value, or an argument no placeholder.
    """
    names = placeholders(command)
    if taken := sorted(set(args) & set(OWN)):
        raise ConfigError(
            f"spec.target.process.args.{taken[0]} is ambiguous", advice=f"set spec.target.process.{taken[0]} instead"
        )
    if unused := sorted(set(args) - names):
        raise ConfigError(
            f"spec.target.process.args.{unused[0]} is not used by the command{nearest(unused[0], names)}",
            advice=f"put {{{unused[0]}}} where it belongs in spec.target.process.command",
        )
    values = {**own, **args}
    for name in sorted(names):
        if values.get(name) is None:
            where = f"spec.target.process.{name}" if name in OWN else f"spec.target.process.args.{name}"
            raise ConfigError(
                f"the command's placeholder {{{name}}} has no value{nearest(name, values.keys() - {name})}",
                advice=f"set {where}",
            )
    return [PLACEHOLDER.sub(lambda match: _text(values[match[1]]), part) for part in command]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
