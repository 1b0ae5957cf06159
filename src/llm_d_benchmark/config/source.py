"""YAML text to a tree whose every value knows its file and line.

The dialect is YAML 1.2 in what people notice: only ``true`` and ``false`` are booleans, so ``on`` and ``no`` are words.
Keys given twice are errors, as are tags that would build objects.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ..domain.errors import ConfigError
from .tree import Node


class _Loader(yaml.SafeLoader):
    """SafeLoader with the booleans and numbers of YAML 1.2."""

    yaml_implicit_resolvers = {
        first: [
            (tag, regexp) for tag, regexp in resolvers if not tag.endswith((":bool", ":float", ":timestamp", ":int"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_FLOAT = re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$")
_SPECIAL = re.compile(r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
for _pattern in (_FLOAT, _SPECIAL):
    _Loader.add_implicit_resolver("tag:yaml.org,2002:float", _pattern, list("-+0123456789."))


def read_file(path: Path) -> Node:
    """The content of a configuration file.

    Raises:
        ConfigError: it cannot be read, is no YAML, is empty or no mapping, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file", advice="llm-d-benchmark config init makes one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    return read_text(text, str(path))


def read_text(text: str, name: str) -> Node:
    """Like ``read_file``, of text; ``name`` is what errors and origins call it.

    Raises:
        ConfigError: see ``read_file``.
    """
    try:
        root = _compose(text, name)
        node = None if root is None else _Builder(name).build(root)
    except RecursionError:
        raise ConfigError(f"{name}: lists and mappings are nested too deeply") from None
    if root is None or node is None:
        raise ConfigError(f"{name}: the file is empty", advice="llm-d-benchmark config init makes one to start from")
    if not node.is_mapping:
        kind = "list" if node.is_list else "single value"
        raise ConfigError(f"{name}:{root.start_mark.line + 1}: a configuration is a mapping of keys, this is a {kind}")
    return node


def read_value(text: str, name: str) -> Any:
    """A value as ``--set`` and environment variables give it: YAML, so 5 is a number and {a: 1} a mapping.

    Raises:
        ConfigError: it is no YAML.
    """
    if text.lstrip()[:1] in (">", "|", "%", "@", "`", "&", "*", "!"):
        return text.strip()  # "<" and ">" start limits; block scalars, anchors and tags make no sense on one line
    try:
        root = _compose(text, name)
        return None if root is None else _Builder(name).build(root).plain()
    except ConfigError as error:
        raise ConfigError(error.message.replace(f"{name}:1: ", f"{name}: "), advice=error.advice) from None


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would not read back as text."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def write_text(data: Any) -> str:
    """Plain data as YAML that ``read_text`` reads back; a scalar never spans lines."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1))


def _compose(text: str, name: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = f"{error.problem or error.context}"
        raise ConfigError(f"{where}: not valid YAML: {problem}", advice=_yaml_advice(problem)) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()


def _yaml_advice(problem: str) -> str | None:
    if "\\t" in problem:
        return "indent with spaces, YAML does not take tabs"
    if "expected a single document" in problem:
        return "give the documents as separate files: -c a.yaml -c b.yaml"
    if "mapping values" in problem or "chomping" in problem or "block scalar" in problem:
        return "put quotes around text that contains ': ' or starts with '>'"
    return None


_CONTAINERS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Builder:
    """From the nodes of the YAML library to ours."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._scalars = yaml.constructor.SafeConstructor()
        self._open: set[int] = set()

    def build(self, node: yaml.Node, at: yaml.Node | None = None) -> Node:
        """The tree of ``node``; its origin is the line of ``at``, the key it belongs to."""
        if id(node) in self._open:
            raise ConfigError(f"{self._where(node)}: this alias contains itself")
        self._open.add(id(node))
        origin = self._where(at or node)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _CONTAINERS:
            raise ConfigError(f"{origin}: the tag {node.tag} is not allowed; write plain values")
        try:
            if isinstance(node, yaml.MappingNode):
                return Node(self._mapping(node), origin)
            if isinstance(node, yaml.SequenceNode):
                return Node([self.build(item) for item in node.value], origin)
            return Node(self._scalar(node), origin)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Node]:
        built: dict[str, Node] = {}
        inherited: dict[str, Node] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                inherited.update(self._merged(value_node))
                continue
            key = self._key(key_node)
            if key in built:
                raise ConfigError(f"{self._where(key_node)}: '{key}' is given twice; first at {built[key].origin}")
            built[key] = self.build(value_node, at=key_node)
        return {**inherited, **built}

    def _merged(self, node: yaml.Node) -> dict[str, Node]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Node] = {}
        for part in reversed(parts):
            built = self.build(part)
            if not built.is_mapping:
                raise ConfigError(f"{self._where(part)}: '<<' merges mappings, this is none")
            merged.update(built.value)
        return merged

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(f"{self._where(node)}: a key must be a plain word")
        return str(node.value)

    def _scalar(self, node: yaml.Node) -> Any:
        known = ("null", "bool", "int", "float", "str", "value")
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rsplit(":", 1)[1] not in known:
            raise ConfigError(f"{self._where(node)}: the tag {node.tag} is not allowed; write plain values")
        if node.tag.endswith(":int"):
            return int(node.value)
        if node.tag.endswith(":float"):
            return float(re.sub(r"\.(?=[iInN])", "", node.value))
        try:
            return self._scalars.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"{self._where(node)}: '{node.value}' cannot be read as {node.tag}") from None

    def _where(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"
