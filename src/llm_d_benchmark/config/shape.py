"""From the forms a file may have to the one form that is validated: {apiVersion, kind, metadata, spec}.

Forms: the full document; blocks on their own (``advanced_config:``, ``monitoring:``, ...); one generator's own
configuration; the v0.2 spelling ``load_generator: NAME``; and common spellings of load keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..domain.errors import ConfigError
from ..domain.events import Finding, Severity
from .load import LoadConfig
from .model import BenchmarkConfig, Spec
from .paths import Path
from .spelling import nearest
from .tree import Node, merge, put, without

GENERATORS: Path = ("spec", "benchmark", "load_generators")
ENVELOPE = frozenset(BenchmarkConfig.model_fields)
BLOCKS = frozenset(Spec.model_fields)
SHORTHANDS = frozenset({"advanced_config", "load_generator"})
LOAD_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {"concurrent_requests": "concurrency", "connections": "concurrency", "threads": "workers"}
)
"""Other names of load keys -> the name they are validated and shown under."""


def is_generator_config(file: Node) -> bool:
    """Whether a file has neither the envelope nor a known block, so that it can only be a generator's own keys."""
    keys = set(file.value)
    known = keys & (ENVELOPE | BLOCKS | SHORTHANDS)
    load_keys = keys & (set(LoadConfig.model_fields) | set(LOAD_SPELLINGS))
    return not (keys & {"apiVersion", "kind", "spec"}) and (not known or bool(load_keys - BLOCKS))


def to_document(file: Node, findings: list[Finding]) -> Node:
    """The document form of a file; deprecations are added to ``findings``. Unknown keys stay where they are.

    Raises:
        ConfigError: nothing of it is known, or the old and new spellings contradict each other.
    """
    keys = set(file.value)
    if not keys & (ENVELOPE | BLOCKS | SHORTHANDS):
        first = next(iter(file.value), "")
        raise ConfigError(
            f"{file.origin}: no 'kind: BenchmarkConfig', and no block of one{nearest(first, ENVELOPE | BLOCKS)}",
            advice="for a load generator's own configuration add --load-generator NAME; "
            "llm-d-benchmark config init writes a file to start from",
        )
    root = {k: v for k, v in file.value.items() if k in ENVELOPE or k not in BLOCKS | SHORTHANDS}
    loose = {k: v for k, v in file.value.items() if k not in root}
    spec = root.get("spec")
    merged = Node(loose, file.origin) if spec is None else merge(Node(loose, file.origin), spec)
    if spec is None or merged.is_mapping:
        root["spec"] = _spec(merged, findings)
    return Node(root, file.origin)


def _spec(spec: Node, findings: list[Finding]) -> Node:
    advanced = spec.get("advanced_config")
    if advanced is not None and advanced.is_mapping:
        spec = merge(Node(advanced.value, advanced.origin), without(spec, "advanced_config"))
    target = spec.get("target")
    if target is not None and isinstance(target.value, str):
        spec = put(spec, ("target",), Node({"type": target}, target.origin))
    listed = spec.get("load_generators")
    if listed is not None and listed.is_list:
        spec = _set_generators(without(spec, "load_generators"), listed)
    for owner in ((), ("benchmark",)):
        spec = _old_spelling(spec, owner, findings)
    generators = spec.get("benchmark", "load_generators")
    if generators is not None and generators.is_list:
        items = [_generator(item) for item in generators.value]
        spec = put(spec, ("benchmark", "load_generators"), Node(items, generators.origin))
    return spec


def _set_generators(spec: Node, generators: Node) -> Node:
    already = spec.get("benchmark", "load_generators")
    if already is not None:
        raise ConfigError(
            f"{generators.origin}: the load generators are also given at {already.origin}", advice="give one of them"
        )
    benchmark = spec.get("benchmark")
    if benchmark is not None and not benchmark.is_mapping:
        return spec
    return put(spec, ("benchmark", "load_generators"), generators)


def _old_spelling(spec: Node, owner: Path, findings: list[Finding]) -> Node:
    holder = spec.get(*owner)
    old = holder.get("load_generator") if holder is not None else None
    if holder is None or old is None:
        return spec
    entry = old if old.is_mapping else Node({"type": Node(old.value, old.origin)}, old.origin)
    findings.append(
        Finding(
            "deprecated_load_generator",
            Severity.WARNING,
            f"{old.origin}: 'load_generator' is the spelling of v0.2; now it is spec.benchmark.load_generators, a list",
            "llm-d-benchmark config migrate FILE rewrites the file",
        )
    )
    holder = without(holder, "load_generator")
    spec = put(spec, owner, holder) if owner else holder
    return _set_generators(spec, Node([entry], old.origin))


def _generator(item: Node) -> Node:
    config = item.get("config")
    if not item.is_mapping or config is None:
        return item
    if config.value is None:
        return without(item, "config")
    return put(item, ("config",), load_keys(config))


def load_keys(config: Node) -> Node:
    """A generator's keys under their own names, those of its stages too.

    Raises:
        ConfigError: two spellings of one key.
    """
    if not config.is_mapping:
        return config
    renamed: dict[str, Node] = {}
    spelt: dict[str, str] = {}
    for key, value in config.value.items():
        name = LOAD_SPELLINGS.get(key, key)
        if name in renamed:
            raise ConfigError(f"{value.origin}: {name} is given twice, as '{spelt[name]}' and as '{key}'")
        renamed[name], spelt[name] = value, key
    stages = renamed.get("stages")
    if stages is not None and stages.is_list:
        renamed["stages"] = Node([load_keys(s) for s in stages.value], stages.origin)
    return Node(renamed, config.origin)


def canonical_path(path: Path) -> Path:
    """A path with the other spellings of load keys replaced, as ``load_keys`` does in files."""
    depth = len(GENERATORS) + 2
    if path[: len(GENERATORS)] != GENERATORS or len(path) <= depth or path[depth - 1] != "config":
        return path
    at = depth + 2 if path[depth] == "stages" else depth
    if at >= len(path):
        return path
    return (*path[:at], LOAD_SPELLINGS.get(str(path[at]), path[at]), *path[at + 1 :])


def generators_for(document: Node, wanted: str) -> list[Node]:
    """The generators of type ``wanted`` that a document lists, or the first one where it lists none of it."""
    listed = document.get(*GENERATORS)
    items: list[Node] = list(listed.value) if listed is not None and listed.is_list else []
    return [i for i in items if _type_of(i) == wanted] or items[:1]


def pick_generator(document: Node, wanted: str, own: Node | None, findings: list[Finding]) -> Node:
    """Only the generators of type ``wanted``, with ``own`` (its configuration file) over their keys.

    Where the document lists none of that type, its first generator's common keys are taken: the same load, by another
    tool. What that tool had under ``native`` is left out.
    """
    items = generators_for(document, wanted)
    chosen = [i for i in items if _type_of(i) == wanted]
    if not chosen:
        config = items[0].get("config") if items else None
        config = without(config, "native") if config is not None and config.is_mapping else Node({}, "--load-generator")
        chosen = [Node({"type": Node(wanted, "--load-generator"), "config": config}, "--load-generator")]
        if items:
            findings.append(
                Finding(
                    "generator_borrowed",
                    Severity.INFO,
                    f"the configuration has no load generator of type '{wanted}'; it runs with the keys of the first "
                    f"one listed ('{_type_of(items[0])}')",
                )
            )
    if own is not None:
        chosen = [put(i, ("config",), merge(i.get("config") or own, load_keys(own))) for i in chosen]
    return put(document, GENERATORS, Node(chosen, chosen[0].origin))


def _type_of(item: Node) -> str:
    node = item.get("type")
    return "native" if node is None else str(node.value)


def generator_types(document: Node) -> list[str]:
    """Types of the generators a document lists, in order."""
    listed = document.get(*GENERATORS)
    return [_type_of(i) for i in listed.value] if listed is not None and listed.is_list else []


def has_generator_list(document: Node) -> bool:
    """Whether everything on the way to the keys of the load generators is of the right kind, or not there at all."""
    kinds = (document, document.get("spec"), document.get("spec", "benchmark"))
    listed = document.get(*GENERATORS)
    if listed is None:
        return all(n is None or n.is_mapping for n in kinds)
    configs = [i.get("config") for i in listed.value] if listed.is_list else []
    return (
        listed.is_list and all(i.is_mapping for i in listed.value) and all(c is None or c.is_mapping for c in configs)
    )
