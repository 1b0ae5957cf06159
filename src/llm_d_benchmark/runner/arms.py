"""The two sides of a regression test, from the versions of the configuration to a configuration for each run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..analyze.comparison.study import SIDES, Side
from ..config.blocks import RegressionTesting
from ..config.layers import LoadedConfig, digest_of
from ..config.model import BenchmarkConfig
from ..config.paths import format_path
from ..config.resolve import resolve_target
from ..config.target import TargetConfig
from ..domain.errors import ConfigError

PLACEHOLDER = "{version}"


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One side: its version and the configuration its runs have, but for their seeds."""

    side: Side
    version: str
    config: LoadedConfig

    def run_config(self, shift: int) -> LoadedConfig:
        """The configuration of one run: every seed ``shift`` further on, the same on both sides for the same load."""
        config = self.config.config
        benchmark = config.spec.benchmark
        generators = [
            g.model_copy(update={"config": g.config.model_copy(update={"seed": g.config.seed + shift})})
            for g in benchmark.load_generators
        ]
        target = config.spec.target
        if target is not None and target.simulator is not None:
            simulator = target.simulator.model_copy(update={"seed": target.simulator.seed + shift})
            target = target.model_copy(update={"simulator": simulator})
        return _changed(
            self.config, benchmark=benchmark.model_copy(update={"load_generators": generators}), target=target
        )


def arms_of(loaded: LoadedConfig, urls: Mapping[Side, str | None]) -> tuple[ArmPlan, ArmPlan]:
    """Baseline and test.

    Args:
        urls: servers that run already, over what the configuration says.

    Raises:
        ConfigError: nothing says what a version is, or the two are one and the same target.
    """
    block = loaded.config.spec.regression_testing or RegressionTesting()
    versions: dict[Side, str] = {"baseline": block.baseline_version, "test": block.test_version}
    targets = {side: _target(loaded.config, block, versions[side], urls.get(side)) for side in SIDES}
    baseline, test = (
        ArmPlan(side, versions[side], _arm_config(loaded, side, versions[side], targets[side])) for side in SIDES
    )
    return baseline, test


def _arm_config(loaded: LoadedConfig, side: Side, version: str, target: TargetConfig) -> LoadedConfig:
    metadata = loaded.config.metadata
    labels = {**metadata.labels, "arm": side, "version": version}
    named = metadata.model_copy(update={"name": f"{metadata.name}-{side}", "labels": labels})
    changed = _changed(loaded, target=target, cluster=None, models=[], regression_testing=None)
    config = changed.config.model_copy(update={"metadata": named})
    origins = _origins(loaded, version)
    return dataclasses.replace(changed, config=config, origins=origins, digest=digest_of(config))


def _origins(loaded: LoadedConfig, version: str) -> dict[str, str]:
    """Origins with those of the version's entry in ``targets`` as those of the target that it becomes."""
    entry = format_path(["spec", "regression_testing", "targets", version])
    target = {k.replace(entry, "spec.target", 1): o for k, o in loaded.origins.items() if k.startswith(f"{entry}.")}
    rest = {k: o for k, o in loaded.origins.items() if not (target and k.startswith("spec.target."))}
    return {**rest, **target}


def _changed(loaded: LoadedConfig, **spec: Any) -> LoadedConfig:
    config = loaded.config.model_copy(update={"spec": loaded.config.spec.model_copy(update=spec)})
    return dataclasses.replace(loaded, config=config, digest=digest_of(config))


def _target(config: BenchmarkConfig, block: RegressionTesting, version: str, url: str | None) -> TargetConfig:
    if url is not None:
        known = config.spec.target.existing if config.spec.target is not None else None
        rest = known.model_dump(exclude={"url"}, exclude_none=True) if known is not None else {}
        return _validated({"type": "existing", "existing": {**rest, "url": url}}, version)
    if version in block.targets:
        return block.targets[version]
    if config.spec.target is not None or config.spec.cluster is not None or config.spec.models:
        plain = resolve_target(config).model_dump(mode="json", exclude_none=True)
        filled = _fill(plain, version)
        if filled != plain:
            return _validated(filled, version)
    raise ConfigError(
        f"nothing says what server version '{version}' of spec.regression_testing is",
        advice=f"give --baseline-url and --test-url for two servers that run; or a target for each version in "
        f"spec.regression_testing.targets; or write {PLACEHOLDER} where the version belongs in spec.target, "
        f'e.g. command: [docker, run, "vllm/vllm-openai:{PLACEHOLDER}", ...]',
    )


def _fill(value: Any, version: str) -> Any:
    if isinstance(value, str):
        return value.replace(PLACEHOLDER, version)
    if isinstance(value, dict):
        return {k: _fill(v, version) for k, v in value.items()}
    return [_fill(v, version) for v in value] if isinstance(value, list) else value


def _validated(target: Mapping[str, Any], version: str) -> TargetConfig:
    try:
        return TargetConfig.model_validate(target)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"the target of version '{version}': {where}: {first['msg']}") from None


def same_server(baseline: ArmPlan, test: ArmPlan) -> bool:
    """Whether both sides are one running server: then a repeated workload would find its own prompts in the cache."""
    one, other = (arm.config.config.spec.target for arm in (baseline, test))
    if one is None or other is None or one.existing is None or other.existing is None:
        return False
    return one.type == other.type == "existing" and one.existing.url == other.existing.url
