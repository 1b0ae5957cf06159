"""Configuration data that remembers where each value was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .paths import Path


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its origin: "file:line", "env NAME", "--set" or "flag".

    ``value`` is a dict of Nodes, a list of Nodes, or a scalar. Nodes are never changed; merging makes new ones.
    """

    value: Any
    origin: str

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)

    def get(self, *path: str | int) -> Node | None:
        """The node at ``path`` below this one, None where there is none."""
        node: Node | None = self
        for part in path:
            if node is None:
                return None
            if node.is_mapping:
                node = node.value.get(part)
            elif node.is_list and isinstance(part, int) and 0 <= part < len(node.value):
                node = node.value[part]
            else:
                return None
        return node

    def plain(self) -> Any:
        """The value without origins."""
        if self.is_mapping:
            return {k: v.plain() for k, v in self.value.items()}
        if self.is_list:
            return [v.plain() for v in self.value]
        return self.value

    def origins(self, path: Path = ()) -> dict[Path, str]:
        """Origin of every scalar and every empty container, by path."""
        items: Sequence[tuple[Any, Node]] = ()
        if self.is_mapping:
            items = list(self.value.items())
        elif self.is_list:
            items = list(enumerate(self.value))
        if not items:
            return {path: self.origin}
        found: dict[Path, str] = {}
        for key, child in items:
            found.update(child.origins((*path, key)))
        return found


def tree_of(value: Any, origin: str) -> Node:
    """Plain data as nodes of one origin."""
    if isinstance(value, Mapping):
        return Node({k: tree_of(v, origin) for k, v in value.items()}, origin)
    if isinstance(value, list | tuple):
        return Node([tree_of(v, origin) for v in value], origin)
    return Node(value, origin)


def merge(base: Node, over: Node) -> Node:
    """``over`` on top of ``base``: mappings merge key by key, anything else replaces."""
    if not (base.is_mapping and over.is_mapping):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, over.origin)


def put(node: Node | None, path: Path, value: Node) -> Node:
    """``node`` with ``value`` at ``path``; mappings and list entries on the way are made where they are missing.

    Raises:
        ValueError: a list position beyond the next free one, or a key below a scalar.
    """
    if not path:
        return value
    head, rest = path[0], path[1:]
    if node is None or node.value is None:
        node = Node([] if isinstance(head, int) else {}, value.origin)
    if node.is_list:
        if not isinstance(head, int):
            raise ValueError(
                f"'{head}' is a key, but there is a list here; give a position from 0 to {len(node.value)}"
            )
        if head > len(node.value):
            raise ValueError(f"position {head} is beyond the list, which has {len(node.value)} entries")
        items = list(node.value)
        child = put(items[head] if head < len(items) else None, rest, value)
        items[head : head + 1] = [child]
        return Node(items, node.origin)
    if node.is_mapping:
        key = str(head)
        return Node({**node.value, key: put(node.value.get(key), rest, value)}, node.origin)
    raise ValueError(f"'{head}' is below {node.value!r}, which has no keys")


def without(node: Node, key: str) -> Node:
    """A mapping without one of its keys."""
    return Node({k: v for k, v in node.value.items() if k != key}, node.origin)
