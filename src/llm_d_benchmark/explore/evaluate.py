"""From settings to a configuration, and from its run to a measurement."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from ..analyze.comparison.usable import unusable
from ..config.layers import DEFAULT, LoadedConfig, load_config
from ..config.paths import Path, format_path, parse_path
from ..domain.errors import BenchmarkError, ConfigError
from ..domain.result import Measured, RunResult
from ..domain.study import Settings, StudyMeasurement
from .plan import Plan, read_metrics
from .search import Question, describe
from .space import Space

Evaluate = Callable[[LoadedConfig], Awaitable[RunResult]]
SEARCH_BLOCKS = ("experiment_design", "configuration_optimization")
FRESH = 1000
"""Seeds of the last comparison start here: those of the search chose the finalists."""


class Configurations:
    """Makes the configuration of each run out of the one that is explored.

    Args:
        own_prompts: every run gets prompts that no other has (one server for all runs, which would remember them);
            else the runs of one round have the same ones.
        finish: makes of each configuration the one that is run, e.g. in virtual time.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        space: Space,
        *,
        own_prompts: bool = False,
        finish: Callable[[LoadedConfig], LoadedConfig] = lambda loaded: loaded,
    ) -> None:
        self._base = _said(loaded)
        self._space = space
        self._own_prompts = own_prompts
        self._finish = finish

    def check(self) -> None:
        """Raises ConfigError for a factor none of whose values makes a valid configuration."""
        self.of(None, 0)
        for dimension in self._space.dimensions:
            errors = []
            for value in dimension.levels(2):
                try:
                    self.of({dimension.name: value}, 0)
                except ConfigError as error:
                    errors.append(error)
            if len(errors) == len(dimension.levels(2)):
                raise ConfigError(
                    f"factor '{dimension.name}' sets {dimension.key}: {errors[0].message}", advice=errors[0].advice
                )

    def of(self, settings: Settings | None, shift: int, *, label: str = "") -> LoadedConfig:
        """The configuration with these settings, every seed ``shift`` further on.

        Raises:
            ConfigError: the settings contradict each other or the rest.
        """
        data = copy.deepcopy(self._base)
        keys = {d.name: d.key for d in self._space.dimensions}
        for name, value in (settings or {}).items():
            for path in _paths(data, keys[name]):
                _put(data, path, value)
        labels = {"study_settings": describe(settings) if settings else "as it is"}
        metadata = data.setdefault("metadata", {})
        metadata["labels"] = {**metadata.get("labels", {}), **labels}
        metadata["name"] = f"{metadata.get('name', 'benchmark')}{'-' if label else ''}{label}"
        _shift_seeds(data, shift)
        return self._finish(load_config([], env={}, overrides=data))

    def shift(self, question: Question, order: int) -> int:
        """How much further on the seeds of a run are."""
        if self._own_prompts:
            return 1 + order
        return question.repeat + (FRESH if question.purpose == "final" else 0)


def _said(loaded: LoadedConfig) -> dict[str, Any]:
    """What the user's files and flags say, without defaults: a factor may change what they would be."""
    data = loaded.config.to_dict()
    for block in SEARCH_BLOCKS:
        data["spec"].pop(block, None)

    def keep(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            kept = {k: keep(v, (*path, k)) for k, v in value.items() if _is_said(loaded, (*path, k), v)}
            return {k: v for k, v in kept.items() if v != {} or _is_said(loaded, (*path, k), {})}
        if isinstance(value, list):
            return [keep(v, (*path, i)) for i, v in enumerate(value)]
        return value

    found: dict[str, Any] = keep(data, ())
    found.setdefault("spec", {}).setdefault("benchmark", {}).setdefault("load_generators", [{}])
    return found


def _is_said(loaded: LoadedConfig, path: Path, value: Any) -> bool:
    if isinstance(value, dict | list) and value:
        return True
    return loaded.origins.get(format_path(path), DEFAULT) != DEFAULT


def _paths(data: Mapping[str, Any], key: str) -> Iterator[Path]:
    """The places a key means: ``*`` is every entry of a list that is there."""
    before, star, after = key.partition(".*.")
    if not star:
        yield parse_path(key)
        return
    holder: Any = data
    for part in parse_path(before):
        holder = holder.get(part, {}) if isinstance(holder, dict) else {}
    for i in range(len(holder)):
        yield (*parse_path(before), i, *parse_path(after))
    if not holder:
        raise ConfigError(f"{key}: there is nothing under {before}")


def _put(data: Any, path: Path, value: Any) -> None:
    *holders, last = path
    for part, following in zip(holders, path[1:], strict=True):
        if isinstance(part, int):
            if not isinstance(data, list) or part >= len(data):
                raise ConfigError(f"{format_path(path)}: there is no entry {part}")
            data = data[part]
        else:
            inner = data.get(part)
            if not isinstance(inner, dict | list):
                # A word that stands for a block (target: simulator) becomes one.
                data[part] = inner = {} if not isinstance(following, int) else []
            data = inner
    data[last] = value


def _shift_seeds(data: dict[str, Any], shift: int) -> None:
    benchmark = data["spec"]["benchmark"]
    for generator in benchmark["load_generators"]:
        load = generator.setdefault("config", {})
        load["seed"] = load.get("seed", 0) + shift
    simulator = data["spec"].get("target", {}).get("simulator")
    if simulator is not None:
        simulator["seed"] = simulator.get("seed", 0) + shift


class Evaluator:
    """Answers the questions of a search by runs; a run that fails is an answer, too."""

    def __init__(self, plan: Plan, configurations: Configurations, evaluate: Evaluate, *, before: int = 0) -> None:
        self._plan = plan
        self._configurations = configurations
        self._evaluate = evaluate
        self._order = before

    async def __call__(self, question: Question) -> StudyMeasurement:
        shift = self._configurations.shift(question, self._order)
        self._order += 1
        try:
            label = f"{question.purpose}{self._order}"
            config = self._configurations.of(question.settings, shift, label=label)
            result = await self._evaluate(config)
        except BenchmarkError as error:
            return _measurement(question, reason=error.message)
        return measurement(self._plan, question, result)


def measurement(plan: Plan, question: Question, result: RunResult) -> StudyMeasurement:
    """What a run says of the plan's metrics. A run that is not valid says nothing of the server."""
    if (reason := unusable(result)) is not None:
        return _measurement(question, run=result.run_id, reason=reason)
    found = read_metrics(result, plan.metrics)
    values = {m: v.value for m, v in found.items() if isinstance(v, Measured)}
    absent = {m: v.absent for m, v in found.items() if not isinstance(v, Measured)}
    return StudyMeasurement(
        result.run_id, f"runs/{result.run_id}", question.purpose, question.settings, question.repeat, question.method,
        "ok", "", values, absent, result.simulated,
    )  # fmt: skip


def _measurement(question: Question, *, reason: str, run: str = "") -> StudyMeasurement:
    path = f"runs/{run}" if run else ""
    return StudyMeasurement(
        run, path, question.purpose, question.settings, question.repeat, question.method, "failed", reason
    )
