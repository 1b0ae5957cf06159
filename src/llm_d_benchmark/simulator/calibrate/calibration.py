"""From runs to a profile, with what it predicts of levels that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...analyze.api import RunInput
from ...config.spelling import nearest
from ...domain.errors import ConfigError
from ...domain.records import IntArray
from ..cost import StepCost
from ..engine import EngineLimits
from ..profiles.file import ProfileFile, StepCoefficients
from .fit import Fitted, fit
from .levels import Level, Performance, grouped, levels_of
from .predict import predict
from .served import Given, Served, served_by
from .steps import observed_steps

LEAST_LEVELS = 4
"""Fewer fitted levels, or sizes of the batch in them, predict others badly: with two points throughput was 25 % off on
real servers."""

SEEN = 5
"""Steps with a number of sequences by which it counts as measured."""

NOT_TOLD = (
    "that no prompt token came from a prefix cache: the server did not count them "
    "(vLLM does with --enable-prompt-tokens-details)"
)

EXAMPLE = "for example stages: [{concurrency: 1}, {concurrency: 4}, {concurrency: 16}, {concurrency: 64}]"

QUANTITIES = ("throughput", "ttft", "tpot")


@dataclass(frozen=True, slots=True)
class Compared:
    """One level: medians over its stages.

    Attributes:
        held_out: the prediction is of a fit without this level.
        outside: no fitted level had as few sequences in the batch, or none as many: the prediction extrapolates.
    """

    label: str
    stages: int
    measured: Performance
    predicted: Performance
    held_out: bool
    outside: bool

    def error(self, quantity: str) -> float:
        """(predicted - measured) / measured of ``throughput``, ``ttft`` or ``tpot``."""
        measured = float(getattr(self.measured, quantity))
        return (float(getattr(self.predicted, quantity)) - measured) / measured


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted cost model with its evidence; ``request_overhead``: seconds until a request is queued."""

    run_ids: Sequence[str]
    served: Served
    cost: StepCost
    request_overhead: float
    levels: Sequence[Compared]
    ranges: Mapping[str, tuple[int, int]]

    def worst(self, quantity: str) -> float:
        """The largest absolute relative error of the levels held out; those outside count where there are no others."""
        held_out = [c for c in self.levels if c.held_out]
        inside = [c for c in held_out if not c.outside]
        return max(abs(c.error(quantity)) for c in inside or held_out)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the ``calibration`` section of a profile file and what ``--json`` prints."""
        return {
            "runs": list(self.run_ids),
            "max_num_seqs": self.served.max_num_seqs,
            "max_num_batched_tokens": self.served.max_num_batched_tokens,
            "assumed": list(self.served.assumed),
            "measured_range": {name: list(pair) for name, pair in self.ranges.items()},
            "worst_hold_out_error": {q: round(self.worst(q), 4) for q in QUANTITIES},
            "levels": [_level_dict(c) for c in self.levels],
        }

    def profile(self) -> ProfileFile:
        return ProfileFile(
            model=self.served.model,
            hardware=self.served.hardware,
            source=f"fitted to {', '.join(self.run_ids)}",
            tensor_parallel_size=self.served.tensor_parallel_size,
            max_model_len=self.served.max_model_len,
            kv_cache_tokens=self.served.kv_cache_tokens,
            request_overhead=self.request_overhead,
            step=StepCoefficients.of(self.cost),
            calibration=self.to_dict(),
        )


def calibrate(runs: Sequence[RunInput], given: Given | None = None, hold_out: Sequence[str] = ()) -> Calibration:
    """Fit the cost model to the levels of these runs.

    Args:
        hold_out: labels of levels that are predicted and never fitted. Without any, each level in turn is predicted by
            a fit of all the others, and the profile is a fit of all.

    Raises:
        ConfigError: fewer than ``LEAST_LEVELS`` levels to fit or batch sizes in them, a level without streamed answers
            or with none in its window, an unknown label, or runs of different servers.
    """
    levels = [level for run in runs for level in levels_of(run)]
    groups = grouped(levels)
    for label in hold_out:
        if label not in groups:
            raise ConfigError(
                f"--hold-out {label}: there is no such level{nearest(label, groups)} ({', '.join(groups)})"
            )
    fitted = [label for label in groups if label not in hold_out]
    if len(fitted) < LEAST_LEVELS:
        raise ConfigError(
            f"{len(fitted)} load levels to fit ({', '.join(fitted) or 'none'}), {LEAST_LEVELS} are needed",
            advice=f"measure more levels of load, {EXAMPLE}; several runs can be given",
        )
    longest = max(int((x.prompt + x.output).max()) for x in levels)
    served = served_by(runs, given or Given(), longest)
    if not all(level.cache_told for level in levels):
        served = replace(served, assumed=[*served.assumed, NOT_TOLD])
    limits = served.limits(longest)
    found = _fit([groups[label] for label in fitted], served)
    ranges = _ranges([level for label in fitted for level in groups[label]], served)
    compared = []
    for label, group in groups.items():
        others = [groups[other] for other in fitted if other != label]
        model = found if hold_out else _fit(others, served)
        outside = _outside(group, others, served.max_num_seqs)
        measured, predicted = _both(label, group, model, limits)
        held_out = not hold_out or label in hold_out
        compared.append(Compared(label, len(group), measured, predicted, held_out, held_out and outside))
    return Calibration([run.run_id for run in runs], served, found.cost, found.request_overhead, compared, ranges)


def _fit(groups: Sequence[Sequence[Level]], served: Served) -> Fitted:
    return fit([level for group in groups for level in group], served.max_num_batched_tokens)


def _outside(group: Sequence[Level], others: Sequence[Sequence[Level]], most: int) -> bool:
    """Whether a level's batch was smaller or larger than that of every other level, by more than a tenth."""
    own = [min(level.in_flight, most) for level in group]
    seen = [min(level.in_flight, most) for other in others for level in other]
    return min(own) < 0.9 * min(seen) or max(own) > 1.1 * max(seen)


def _both(label: str, group: Sequence[Level], model: Fitted, limits: EngineLimits) -> tuple[Performance, Performance]:
    """Measured and predicted performance of a level."""
    pairs = [
        (level.measured, predict(level, model.cost, limits, request_overhead=model.request_overhead)) for level in group
    ]
    whole = [(measured, predicted) for measured, predicted in pairs if measured and predicted]
    if not whole:
        raise ConfigError(
            f"level {label}: in its window no request with more than one token was sent, or no token arrived",
            advice="measure it for longer: a window should hold at least some tens of requests",
        )
    return _median([m for m, _ in whole]), _median([p for _, p in whole])


def _median(values: Sequence[Performance]) -> Performance:
    return Performance(*(float(np.median([getattr(v, q) for v in values])) for q in QUANTITIES))


def _ranges(levels: Sequence[Level], served: Served) -> dict[str, tuple[int, int]]:
    """What the fit has seen; beyond it the profile extrapolates.

    Raises:
        ConfigError: it has seen too few sizes of the batch.
    """
    seen = {
        "prompt_tokens": np.concatenate([level.prompt for level in levels]),
        "computed_prompt_tokens": np.concatenate([level.computed for level in levels]),
        "output_tokens": np.concatenate([level.output for level in levels]),
        "sequences": _batches(levels, served),
    }
    return {name: (int(values.min()), int(values.max())) for name, values in seen.items()}


def _batches(levels: Sequence[Level], served: Served) -> IntArray:
    """The numbers of sequences that decoded together, ascending.

    Raises:
        ConfigError: too few. A level of load is none of the batch while its requests never meet.
    """
    steps = [observed_steps(level, served.max_num_batched_tokens).seqs for level in levels]
    count = np.bincount(np.concatenate(steps).astype(np.int64))
    count[0] = 0
    batches: IntArray = np.flatnonzero(count >= SEEN)
    needed = min(LEAST_LEVELS, served.max_num_seqs)
    if len(batches) < needed:
        seen = " or ".join(map(str, batches)) or "no"
        raise ConfigError(
            f"numbers of sequences that the server decoded together in these levels: {seen}; {needed} different ones "
            "are needed to tell what a batch costs",
            advice=f"measure levels with more requests at once, {EXAMPLE}; if the server has fewer than "
            f"{needed} places, say so with --max-num-seqs",
        )
    return batches


def _level_dict(compared: Compared) -> dict[str, Any]:
    values: dict[str, Any] = {"level": compared.label, "stages": compared.stages, "held_out": compared.held_out}
    values["outside"] = compared.outside
    for quantity in QUANTITIES:
        values[quantity] = {
            "measured": getattr(compared.measured, quantity),
            "predicted": getattr(compared.predicted, quantity),
            "error": round(compared.error(quantity), 4),
        }
    return values
