"""The space that is searched: factors with values or ranges, conditions, forbidden combinations. Pure."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..config.aliases import check_factor, factor_key
from ..config.blocks import ConfigurationOptimization, ExperimentDesign, Factor, Search, Variation
from ..domain.errors import ConfigError
from ..domain.study import FactorInfo, Settings, Value

RANGE_LEVELS = 5
"""Values of a range without a step where a grid is asked for."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One factor.

    Attributes:
        name: as it was given; of a configuration key its last part, where that is enough.
        key: the configuration key it sets; ``*`` stands for every entry of a list.
        values: in order; empty for a range without a step.
        low, high, log, integer: of a range.
        when: it is varied only where each of these factors has one of the values.
        present: what the configuration says as it is; None where it leaves that to the server.
    """

    name: str
    key: str
    values: Sequence[Value] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    when: Mapping[str, Sequence[Value]] | None = None
    present: Value | None = None

    @property
    def ordered(self) -> bool:
        """Whether its values are numbers."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    def at(self, fraction: float) -> Value:
        """The value at a fraction of the way from the first to the last, 0 to 1."""
        if self.values:
            return self.values[min(int(fraction * len(self.values)), len(self.values) - 1)]
        if self.log:
            found = self.low * (self.high / self.low) ** fraction
        else:
            found = self.low + (self.high - self.low) * fraction
        return round(found) if self.integer else float(f"{found:.6g}")

    def levels(self, count: int = RANGE_LEVELS) -> list[Value]:
        """Its values; of a range ``count`` of them, both ends included."""
        if self.values:
            return list(self.values)
        return list(dict.fromkeys(self.at(i / (count - 1)) for i in range(count)))

    def info(self) -> FactorInfo:
        if self.values:
            return FactorInfo(self.name, self.key, tuple(self.values), present=self.present)
        return FactorInfo(self.name, self.key, low=self.low, high=self.high, log=self.log, present=self.present)


@dataclass(frozen=True, slots=True)
class Space:
    """Dimensions in order, and combinations that are never run."""

    dimensions: Sequence[Dimension]
    forbidden: Sequence[Mapping[str, Sequence[Value]]] = ()

    def active(self, settings: Settings) -> Settings:
        """The settings without factors whose condition does not hold."""
        kept: dict[str, Value] = {}
        for d in self.dimensions:
            if d.name in settings and all(kept.get(f) in among for f, among in (d.when or {}).items()):
                kept[d.name] = settings[d.name]
        return kept

    def allows(self, settings: Settings) -> bool:
        """Whether no forbidden combination is among the settings."""
        return not any(all(settings.get(f) in among for f, among in rule.items()) for rule in self.forbidden)

    def is_present(self, settings: Settings) -> bool:
        """Whether these settings change nothing of the configuration as it is."""
        present = {d.name: d.present for d in self.dimensions}
        return all(value == present[name] for name, value in settings.items())

    @property
    def linked(self) -> set[str]:
        """Factors that conditions and forbidden combinations speak of, or that have a condition."""
        named = {f for d in self.dimensions if d.when for f in (d.name, *d.when)}
        return named | {f for rule in self.forbidden for f in rule}

    @property
    def finite(self) -> bool:
        return all(d.values for d in self.dimensions)

    def combinations(self) -> Iterator[Settings]:
        """Every allowed combination once, a range by ``RANGE_LEVELS`` of its values."""
        seen: set[str] = set()
        for values in itertools.product(*(d.levels() for d in self.dimensions)):
            settings = self.active(dict(zip((d.name for d in self.dimensions), values, strict=True)))
            if key_of(settings) not in seen and self.allows(settings):
                seen.add(key_of(settings))
                yield settings

    def size(self) -> int:
        """How many combinations there are at most, with ranges by ``RANGE_LEVELS`` values."""
        return math.prod(len(d.levels()) for d in self.dimensions)


def key_of(settings: Settings | None) -> str:
    """The same text for the same settings."""
    return json.dumps(settings, sort_keys=True)


def space_of(
    block: ExperimentDesign | ConfigurationOptimization,
    target_type: str,
    present: Callable[[str], Value | None] = lambda _: None,
) -> Space:
    """The space of a block on this type of target.

    Args:
        present: what a configuration key is as it stands.

    Raises:
        ConfigError: a factor that this target does not have, a condition on a factor that does not come before.
    """
    dimensions: list[Dimension] = []
    names = _names([name for name, _ in _variations(block)])
    for given, variation in _variations(block):
        try:
            key = factor_key(given, target_type)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        before = {g for g, n in names.items() if n in {d.name for d in dimensions}}
        when = {check_factor(f): tuple(among) for f, among in variation.when.items()}
        if missing := sorted(set(when) - before):
            raise ConfigError(
                f"factor '{given}': 'when' names {', '.join(missing)}, which is no factor given before it"
            )
        dimension = _dimension(names[given], key, variation, {names[f]: among for f, among in when.items()} or None)
        dimensions.append(replace(dimension, present=present(key)))
    return Space(dimensions, _forbidden(block, names))


def _names(given: Sequence[str]) -> dict[str, str]:
    """A configuration key goes by its last part where no other factor does."""
    last = Counter(name.rpartition(".")[2] for name in given)
    return {name: short if last[short := name.rpartition(".")[2]] == 1 else name for name in given}


def _variations(block: ExperimentDesign | ConfigurationOptimization) -> Iterator[tuple[str, Variation]]:
    if isinstance(block, ExperimentDesign):
        yield from ((check_factor(f.name), f) for f in block.factors)
        return
    for name, given in block.search_space.items():
        yield check_factor(name), given if isinstance(given, Variation) else Factor(name=name, values=given)


def _dimension(name: str, key: str, v: Variation, when: Mapping[str, Sequence[Value]] | None) -> Dimension:
    if v.values is not None:
        return Dimension(name, key, tuple(v.values), when=when)
    assert v.low is not None
    assert v.high is not None
    integer = all(isinstance(x, int) for x in (v.low, v.high, v.step if v.step is not None else 1))
    if v.step is not None:
        count = math.floor((v.high - v.low) / v.step + 1e-9) + 1
        steps = [v.low + i * v.step for i in range(count)]
        return Dimension(name, key, tuple(steps if integer else [float(f"{s:.12g}") for s in steps]), when=when)
    return Dimension(name, key, (), float(v.low), float(v.high), v.log, integer, when)


def _forbidden(block: Search, names: Mapping[str, str]) -> list[Mapping[str, Sequence[Value]]]:
    rules: list[Mapping[str, Sequence[Value]]] = []
    for rule in block.forbidden:
        named = {check_factor(f): tuple(v) if isinstance(v, list) else (v,) for f, v in rule.items()}
        if missing := sorted(set(named) - set(names)):
            raise ConfigError(f"'forbidden' names {', '.join(missing)}, which is no factor of this search")
        rules.append({names[f]: among for f, among in named.items()})
    return rules
