"""Which server a configuration means."""

from __future__ import annotations

from ..domain.errors import ConfigError
from .model import BenchmarkConfig
from .target import TargetConfig


def resolve_target(config: BenchmarkConfig) -> TargetConfig:
    """``spec.target``; where there is none, the Kubernetes deployment that spec.cluster and spec.models describe.

    Raises:
        ConfigError: nothing says where the server is.
    """
    spec = config.spec
    if spec.target is not None:
        return spec.target
    if spec.cluster is None and not spec.models:
        raise ConfigError(
            "nothing says which server to measure",
            advice="--url http://HOST:8000 for one that is running, --target local for a small model on this machine, "
            "or spec.target in the configuration",
        )
    block = {
        "cluster": spec.cluster.model_dump(mode="json", exclude_none=True) if spec.cluster else {},
        "models": [m.model_dump(mode="json", exclude_none=True) for m in spec.models],
    }
    return TargetConfig(type="kubernetes", kubernetes=block)
