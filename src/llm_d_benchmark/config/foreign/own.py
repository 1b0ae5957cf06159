"""What a tool's own file says, sorted into common keys, the target, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...domain.errors import ConfigError
from ..spelling import nearest
from ..tree import Node

LOADS = frozenset({"concurrency", "request_rate", "arrival", "stages", "sweep"})
"""Common keys that say how much load there is."""


@dataclass(slots=True)
class Own:
    """A tool's file as it is being read.

    Attributes:
        common: load keys of ours.
        target: ``url`` and ``model`` of the server.
        native: the tool's own keys, in the form that its adapter lays over what it makes itself.
        defaults: load keys of ours as the tool has them where its file does not say; our own defaults differ.
        dropped: keys without effect here, with the reason.
        differing: what will be run otherwise than by the tool itself, with the line.
    """

    common: dict[str, Node] = field(default_factory=dict)
    target: dict[str, Node] = field(default_factory=dict)
    native: dict[str, Node] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    dropped: list[tuple[str, Node, str]] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def drop(self, key: str, node: Node | None, why: str) -> None:
        if node is not None:
            self.dropped.append((key, node, why))

    def keep(self, rest: Section) -> None:
        """What is left of a section, for the tool itself."""
        if rest.items:
            self.native[rest.name] = Node(rest.items, rest.origin)


class Section:
    """A mapping whose keys are taken out one by one; ``items`` is what is left.

    Of a whole file, ``beside`` are the common keys that are said beside the tool's own.
    """

    def __init__(self, name: str, node: Node | None, beside: Collection[str] = ()) -> None:
        if node is not None and not node.is_mapping:
            raise ConfigError(f"{node.origin}: '{name}' is a mapping of keys, not {node.plain()!r}")
        self.name = name
        self.beside = frozenset(beside)
        self.origin = node.origin if node is not None else ""
        self.items: dict[str, Node] = {k: v for k, v in node.value.items() if v.value is not None} if node else {}

    def take(self, *names: str) -> Node | None:
        """The first of these keys that is there."""
        found = [self.items.pop(n) for n in names if n in self.items]
        return found[0] if found else None

    def section(self, name: str) -> Section:
        return Section(name, self.items.pop(name, None))

    def says(self, *names: str) -> bool:
        """Whether one of these keys is there, left or among the common ones."""
        return not self.items.keys().isdisjoint(names) or not self.beside.isdisjoint(names)

    def refuse(self, of: str, *, known: Collection[str] = (), advice: str | None = None) -> None:
        """Raises ConfigError where a key is left: it would be lost without a word.

        Args:
            of: whose key it is, for the message.
            known: keys that are taken, of which it may be a misspelling.
        """
        for key, node in self.items.items():
            raise ConfigError(f"{node.origin}: '{key}' of {of} has no common key{nearest(key, known)}", advice=advice)

    def move(self, to: dict[str, Node], **names: str) -> None:
        """Move keys: ``move(common, seed="base_seed")`` takes base_seed and sets seed."""
        for ours, theirs in names.items():
            node = self.take(theirs)
            if node is not None:
                to[ours] = node


@dataclass(frozen=True, slots=True)
class OwnFile:
    """How a tool's own configuration file is recognised and read; a load generator states it as ``own_file``.

    Attributes:
        keys: at its top, that no other file has.
        read: takes out of it what can be said otherwise; the keys that it leaves there go to the tool as they are.
        within: keys below a key that our documents have, too, such as ``spec``.
        shared: keys with the name of a common key, whose values are the tool's where others of its keys are there.
        dashes: whether keys may be written with dashes.
    """

    keys: frozenset[str]
    read: Callable[[Section], Own]
    within: Mapping[str, frozenset[str]] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    dashes: bool = False


OwnFileOf = Callable[[str], OwnFile | None]
"""The own file of a load generator by its name; None where it has none."""


def number(node: Node, what: str) -> float:
    """A number.

    Raises:
        ConfigError: it is none.
    """
    try:
        if not isinstance(node.value, bool):
            return float(node.value)
    except (TypeError, ValueError):
        pass
    raise ConfigError(f"{node.origin}: {what}: {node.plain()!r} is no number")


def whole(node: Node, what: str) -> Node:
    """The same as a whole number, also where it was written as text.

    Raises:
        ConfigError: it is none.
    """
    value = number(node, what)
    if value != int(value):
        raise ConfigError(f"{node.origin}: {what}: {node.plain()!r} is no whole number")
    return Node(int(value), node.origin)


def entries(node: Node) -> list[Node]:
    """The entries of a list, of text with commas, or the value itself."""
    if node.is_list:
        return list(node.value)
    if isinstance(node.value, str):
        return [Node(part.strip(), node.origin) for part in node.value.split(",") if part.strip()]
    return [node]


def mapping(origin: str, **values: Any) -> Node:
    """A mapping of values (plain or nodes) of one origin; None is left out."""
    nodes = {k: v if isinstance(v, Node) else Node(v, origin) for k, v in values.items() if v is not None}
    return Node(nodes, origin)


def length(
    origin: str,
    *,
    mean: Node | None = None,
    sd: Node | None = None,
    low: Node | None = None,
    high: Node | None = None,
    kind: str = "normal",
) -> Node | None:
    """A length distribution of ours: fixed without spread, uniform between bounds alone, else ``kind`` within them."""
    bounds = [None if n is None else int(number(n, "a length")) for n in (low, high)]
    spread = 0.0 if sd is None else number(sd, "a standard deviation")
    if mean is None or (kind == "uniform" and None not in bounds):
        if None in bounds:
            return None
        if bounds[0] == bounds[1]:
            return Node(bounds[0], origin)
        return mapping(origin, distribution="uniform", min=bounds[0], max=bounds[1])
    middle = number(mean, "a length")
    if not spread:
        return Node(round(middle), origin)
    return mapping(origin, distribution=kind, mean=middle, std_dev=spread, min=bounds[0], max=bounds[1])


def stages(own: Own, found: Iterable[dict[str, Node]], origin: str) -> None:
    """One load as keys of the generator, several as its stages."""
    listed = list(found)
    if len(listed) == 1:
        own.common |= listed[0]
    elif listed:
        own.common["stages"] = Node([Node(s, origin) for s in listed], origin)


def no_secret(node: Node | None, what: str) -> None:
    """Raises ConfigError where a secret is written out."""
    if node is not None:
        raise ConfigError(
            f"{node.origin}: {what} must not be written into a file",
            advice="export OPENAI_API_KEY, or add a file with spec.target.existing.api_key: {env: NAME}",
        )
