"""Files that a configuration names: beside the file that names them, and for a tool that runs in another folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from .foreign.read import OURS
from .shape import GENERATORS, generator_types
from .tree import Node, put


def folder_of(node: Node) -> Path:
    """The folder of the file in which a value stands; the current one for flags and the environment."""
    holder, _, line = node.origin.rpartition(":")
    return Path(holder).parent if line.isdecimal() else Path()


def with_absolute_paths(document: Node) -> Node:
    """``native`` of other load generators with files by their whole path: a tool runs in the run folder.

    Only a value that looks like a path and names what exists is one; it is looked for beside the file in which it
    stands, then in the current folder, as the tool by itself would.
    """
    for i, kind in enumerate(generator_types(document)):
        at = (*GENERATORS, i, "config", "native")
        native = document.get(*at)
        if native is not None and kind not in OURS:
            document = put(document, at, _absolute(native))
    return document


def _absolute(node: Node) -> Node:
    if node.is_mapping:
        return Node({k: _absolute(v) for k, v in node.value.items()}, node.origin)
    if node.is_list:
        return Node([_absolute(v) for v in node.value], node.origin)
    if not isinstance(node.value, str) or not ("/" in node.value or "." in node.value):
        return node
    for folder in (folder_of(node), Path()):
        path = (folder / node.value).absolute()  # not resolved: a link may have the suffix that a tool looks at
        if _is_meant(path, node.value):
            return Node(str(path), node.origin)
    return node


def _is_meant(path: Path, value: str) -> bool:
    """Whether it is a file, or a folder written with a slash: "v1.0" may be the name of one by chance."""
    with suppress(OSError, ValueError):  # a text that can be no path
        return path.is_file() or ("/" in value and path.is_dir())
    return False
