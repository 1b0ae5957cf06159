"""A load generator's own file, whoever's: common keys, and the tool's own translated or passed on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from ...domain.errors import ConfigError
from ...domain.events import Finding, Severity
from ..load import LoadConfig
from ..spelling import closest
from ..tree import Node, merge
from . import aiperf, fmperf, guidellm, inference_perf, vllm_bench
from .own import Own, Section

READERS: Mapping[str, tuple[frozenset[str], Callable[[Section], Own]]] = MappingProxyType(
    {
        "inference-perf": (inference_perf.KEYS, inference_perf.read),
        "guidellm": (guidellm.KEYS, guidellm.read),
        "fmperf": (fmperf.KEYS, fmperf.read),
        "aiperf": (aiperf.KEYS, aiperf.read),
        "vllm-bench": (vllm_bench.KEYS, vllm_bench.read),
    }
)
"""Tool -> the keys that only its files have at the top, and how they are read."""
OURS = frozenset({"native", "virtual", "command"})
"""Generators whose keys are all ours: an unknown one is a mistake."""


def is_of(tool: str, file: Node, ours: Collection[str]) -> bool:
    """Whether a file has keys at its top that files of this tool have, and ``ours`` (documents and blocks) have not."""
    if tool not in READERS or file.value.keys() & {"apiVersion", "kind"}:
        return False
    spec = file.get("spec")
    if tool == "guidellm" and spec is not None and spec.is_mapping and spec.value.keys() & guidellm.SPEC_KEYS:
        return True
    return bool(_theirs(tool, file) - set(ours))


def _theirs(tool: str, file: Node) -> set[str]:
    """Keys of the file that are the tool's own. A name that common keys have, too, is ours where it is no mapping."""
    keys = READERS[tool][0]
    dashed = tool in ("aiperf", "vllm-bench")
    found = {k for k in file.value if (k.replace("-", "_") if dashed else k) in keys}
    return {k for k in found if k not in LoadConfig.model_fields or file.value[k].is_mapping}


def own_keys(tool: str, file: Node, spellings: Mapping[str, str], findings: list[Finding]) -> tuple[Node, Node | None]:
    """The keys of ``config`` for this tool, and the target that its file names (None: it names none).

    Args:
        spellings: other names of common keys.
        findings: what has no effect is added.

    Raises:
        ConfigError: with file and line.
    """
    common = set(LoadConfig.model_fields) | set(spellings)
    if tool in OURS or not file.is_mapping:
        return file, None
    keys, read = READERS.get(tool, (frozenset(), _as_it_is))
    theirs = _theirs(tool, file) if tool in READERS else set()
    theirs |= vllm_bench.SHARED if tool == "vllm-bench" and theirs else set()
    taken = {k for k in file.value if k in common and k not in theirs}
    rest = Section(tool, Node({k: v for k, v in file.value.items() if k not in taken}, file.origin))
    own = read(rest)
    for key, node in rest.items.items():
        if key in common:
            own.common.setdefault(key, node)
            continue
        _refuse_unknown(tool, key, node, common | set(keys))
        own.native[key] = node
    findings += [_without_effect(tool, *dropped) for dropped in own.dropped]
    found = Node({k: v for k, v in file.value.items() if k in taken}, file.origin)
    told = dict(own.common)
    if own.native:
        told["native"] = Node(own.native, file.origin)
    target = Node(own.target, file.origin) if own.target else None
    return merge(Node(told, file.origin), found), target


def _as_it_is(_: Section) -> Own:
    return Own()


def _refuse_unknown(tool: str, key: str, node: Node, known: set[str]) -> None:
    """Raises ConfigError for a key that is probably a mistyped one; others are the tool's business."""
    meant = closest(key, known)
    if tool in READERS and meant is not None:
        raise ConfigError(
            f"{node.origin}: unknown key '{key}'; did you mean '{meant}'?",
            advice=f"a key that is {tool}'s own goes under native",
        )


def _without_effect(tool: str, key: str, node: Node, why: str) -> Finding:
    return Finding("native_key_dropped", Severity.INFO, f"{node.origin}: {tool}'s '{key}' has no effect here: {why}")
