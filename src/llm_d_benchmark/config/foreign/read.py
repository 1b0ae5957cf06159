"""A load generator's own file, whoever's: common keys, and the tool's own translated or passed on."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ...domain.errors import ConfigError
from ...domain.events import Finding, Severity
from ..load import LoadConfig
from ..spelling import closest
from ..tree import Node, merge, tree_of
from .own import Own, OwnFile, Section

OURS = frozenset({"native", "virtual", "command"})
"""Generators whose keys are all ours: an unknown one is a mistake."""


def is_of(own: OwnFile | None, file: Node, ours: Collection[str]) -> bool:
    """Whether a file has keys that files of a tool have, and ``ours`` (documents and blocks) have not."""
    if own is None or file.value.keys() & {"apiVersion", "kind"}:
        return False
    for name, keys in own.within.items():
        below = file.get(name)
        if below is not None and below.is_mapping and below.value.keys() & keys:
            return True
    return bool(_theirs(own, file) - set(ours))


def _theirs(own: OwnFile, file: Node) -> set[str]:
    """Keys of the file that are the tool's own. A name that common keys have, too, is ours where it is no mapping,
    and is not written with dashes."""
    found = {k for k in file.value if (k.replace("-", "_") if own.dashes else k) in own.keys}
    ours = LoadConfig.model_fields
    found = {k for k in found if k not in ours or file.value[k].is_mapping}
    return found | {k for k in file.value if own.dashes and k not in ours and k.replace("-", "_") in ours}


def own_keys(
    tool: str,
    own: OwnFile | None,
    file: Node,
    spellings: Mapping[str, str],
    findings: list[Finding],
    beside: Collection[str] = (),
) -> tuple[Node, Node | None]:
    """The keys of ``config`` for this tool, and the target that its file names (None: it names none).

    Args:
        own: how the tool's own files are read; without it, keys that are not common ones are passed on as they are.
        spellings: other names of common keys.
        findings: what has no effect is added.
        beside: common keys that the file's are merged with; they go before what the tool does by default.

    Raises:
        ConfigError: with file and line.
    """
    if tool in OURS or not file.is_mapping:
        return file, None
    common = set(LoadConfig.model_fields) | set(spellings)
    theirs = set() if own is None else _theirs(own, file)
    if own is not None and theirs:
        theirs |= own.shared
    taken = {k for k in file.value if k in common and k not in theirs}
    said = {spellings.get(k, k) for k in (*taken, *beside)}
    rest = Section(tool, Node({k: v for k, v in file.value.items() if k not in taken}, file.origin), said)
    read = own.read(rest) if own is not None and theirs else Own()
    for key, node in rest.items.items():
        if key in common:
            read.common.setdefault(key, node)
            continue
        if own is not None:
            _refuse_mistyped(tool, key, node, common | own.keys)
        read.native[key] = node
    findings += [_without_effect(tool, *dropped) for dropped in read.dropped]
    findings += [Finding("own_file_differs", Severity.WARNING, text) for text in read.differing]
    found = Node({k: v for k, v in file.value.items() if k in taken}, file.origin)
    # a mapping's keys are each said or not
    unsaid = {k: v for k, v in read.defaults.items() if k not in said or isinstance(v, dict)}
    told = merge(tree_of(unsaid, f"{tool}'s default"), Node(read.common, file.origin)).value
    if read.native:
        told["native"] = Node(read.native, file.origin)
    target = Node(read.target, file.origin) if read.target else None
    return merge(Node(told, file.origin), found), target


def _refuse_mistyped(tool: str, key: str, node: Node, known: set[str]) -> None:
    """Raises ConfigError for a key that is probably a mistyped one; others are the tool's business."""
    meant = closest(key, known)
    if meant is not None:
        raise ConfigError(
            f"{node.origin}: unknown key '{key}'; did you mean '{meant}'?",
            advice=f"a key that is {tool}'s own goes under native",
        )


def _without_effect(tool: str, key: str, node: Node, why: str) -> Finding:
    return Finding("native_key_dropped", Severity.INFO, f"{node.origin}: {tool}'s '{key}' has no effect here: {why}")
