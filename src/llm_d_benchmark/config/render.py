"""A loaded configuration as text that says where each value came from."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from .layers import LoadedConfig
from .paths import Path, format_path

_WIDEST = 72


def render(loaded: LoadedConfig) -> str:
    """The resolved configuration in YAML, with the origin of each value as an aligned comment."""
    text = loaded.to_yaml()
    comments = {line: loaded.origins[format_path(path)] for line, path in _lines(yaml.compose(text), ())}
    lines = text.splitlines()
    column = min(max((len(lines[i]) for i in comments), default=0), _WIDEST)
    return "".join(
        f"{line:<{column}}  # {comments[i]}\n" if i in comments else f"{line}\n" for i, line in enumerate(lines)
    )


def _lines(node: yaml.Node | None, path: Path) -> Iterator[tuple[int, Path]]:
    """Line number and path of each scalar and each empty container."""
    if isinstance(node, yaml.MappingNode) and node.value:
        for key, value in node.value:
            yield from _lines(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode) and node.value:
        for i, value in enumerate(node.value):
            yield from _lines(value, (*path, i))
    elif node is not None:
        yield node.end_mark.line, path
