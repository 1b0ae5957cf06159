"""Targets by type: built-ins and third-party ones through one entry-point table, loaded when first used."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import cast

from ..config.spelling import nearest
from ..config.target import TargetConfig
from ..domain.errors import ConfigError
from ..domain.plugins import plugins
from .api import Target

GROUP = "llm_d_benchmark.targets"
LATER = {
    "kubernetes": "deploy the server yourself, make it reachable (kubectl port-forward), and give --url URL",
}


def available() -> list[str]:
    """Types of target that are installed, sorted."""
    return [*plugins(GROUP)]


def create_target(config: TargetConfig) -> Target:
    """The target that ``spec.target`` describes.

    Raises:
        ConfigError: no such type is installed, or its code cannot be loaded.
    """
    point = _find(config.type)
    try:
        build = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the target '{config.type}' ({point.value}) cannot be loaded: {error}",
            advice="reinstall the package that provides it",
        ) from None
    block = getattr(config, config.type, None)
    return cast(Target, build({} if block is None else block))


def _find(kind: str) -> EntryPoint:
    known = plugins(GROUP)
    if kind in known:
        return known[kind]
    if kind in LATER:
        raise ConfigError(f"targets of type '{kind}' are not available in this version", advice=LATER[kind])
    raise ConfigError(
        f"spec.target.type '{kind}' is unknown{nearest(kind, [*known, *LATER])}",
        advice=f"allowed: {', '.join(known)}",
    )
