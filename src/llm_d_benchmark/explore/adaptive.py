"""Methods that choose the next configuration by what was measured: Bayesian (TPE) and genetic (NSGA-II), by Optuna."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..domain.errors import ConfigError
from ..domain.study import Settings, Value
from .ledger import Standing
from .plan import Plan
from .space import Dimension, key_of

if TYPE_CHECKING:
    import optuna

STALE = 25
"""Proposals in a row that were made before, after which one that was not is asked for."""

TRIES = 5
"""Attempts to open a shared storage, a little later each."""


class Adaptive:
    """Ask for a configuration, tell what became of it.

    Without ``storage`` the same seed and the same answers give the same questions, so that an interrupted study goes on
    by being told what it knows.

    Raises:
        ConfigError: Optuna is not installed, or the storage cannot be opened.
    """

    def __init__(self, plan: Plan, method: str, trials: int, *, seed: int, storage: str | None, name: str) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ConfigError(
                f"{method} needs Optuna, which is not installed",
                advice="pip install 'llm-d-benchmark[explore]', or use grid_search, random_search, latin_hypercube, "
                "sobol",
            ) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._plan = plan
        self._random = random.Random(seed)
        self._open: list[tuple[optuna.Trial, str]] = []
        self._told: dict[str, Standing] = {}
        self._shared = storage is not None
        self._study = _study(
            storage,
            sampler=_sampler(method, plan, trials, seed),
            study_name=f"{name}-{method}",
            directions=["maximize"] * len(plan.objectives),
        )

    @property
    def finished(self) -> int:
        """Different configurations that were told, by all workers of the study together."""
        if not self._shared:
            return len(self._told)
        known = self._study.get_trials(deepcopy=False, states=(optuna_state().COMPLETE,))
        return len({t.user_attrs["key"] for t in known if t.user_attrs.get("allowed")})

    def ask(self) -> Settings | None:
        """A configuration that was not proposed before; None where there is none left."""
        for attempt in range(8 * STALE):
            if attempt and attempt % STALE == 0:
                self._study.enqueue_trial(self._unseen())
            trial = self._study.ask()
            settings = self._plan.space.active(
                {d.name: _suggest(trial, d) for d in self._plan.space.dimensions if self._is_active(d, trial)}
            )
            key = key_of(settings)
            trial.set_user_attr("key", key)
            trial.set_user_attr("allowed", self._plan.space.allows(settings))
            known = self._told.get(key)
            if not self._plan.space.allows(settings):
                self._answer(trial, None, {"forbidden": 1.0})
            elif known is not None:
                self._answer(trial, known.scores(self._plan.objectives), known.violations)
            else:
                self._open.append((trial, key))
                return settings
        return None

    def tell(self, found: Standing) -> None:
        """What became of a configuration that was asked for."""
        key = key_of(found.settings)
        self._told[key] = found
        for trial, asked in self._open:
            if asked == key:
                self._answer(trial, found.scores(self._plan.objectives), found.violations)
        self._open = [(t, k) for t, k in self._open if k != key]

    def drop(self, settings: Settings) -> None:
        """A configuration that was asked for is another worker's."""
        from optuna.trial import TrialState

        key = key_of(settings)
        for trial, asked in self._open:
            if asked == key:
                self._study.tell(trial, state=TrialState.FAIL)
        self._open = [(t, k) for t, k in self._open if k != key]

    def _answer(self, trial: optuna.Trial, scores: Sequence[float] | None, violations: Any) -> None:
        """A failure is told as the worst that was seen and as infeasible, so that the method learns to avoid it."""
        names = [*(c.name for c in self._plan.limits), "failed", "forbidden"]
        for name in names:
            trial.set_constraint(name, float(violations.get(name, 0.0)))
        if scores is None:
            trial.set_constraint("missing", 1.0)
            scores = self._worst()
        else:
            trial.set_constraint("missing", 0.0)
        self._study.tell(trial, list(scores))

    def _worst(self) -> list[float]:
        known = [s for s in (t.scores(self._plan.objectives) for t in self._told.values()) if s is not None]
        return [min(column) for column in zip(*known, strict=True)] or [0.0] * len(self._plan.objectives)

    def _unseen(self) -> dict[str, Any]:
        """A random point, at a place where the method has not been if one is found soon."""
        for _ in range(200):
            values = {d.name: d.at(self._random.random()) for d in self._plan.space.dimensions}
            settings = self._plan.space.active(values)
            if key_of(settings) not in self._told and self._plan.space.allows(settings):
                break
        return {d.name: _inverse(d, values[d.name]) for d in self._plan.space.dimensions}

    def _is_active(self, d: Dimension, trial: optuna.Trial) -> bool:
        if not d.when:
            return True
        dims = {x.name: x for x in self._plan.space.dimensions}
        return all(f in trial.params and _value(dims[f], trial.params[f]) in among for f, among in d.when.items())


def _study(storage: str | None, **options: Any) -> optuna.Study:
    """Workers that start together make the tables together: the one that comes too late looks once more."""
    import optuna

    for attempt in range(TRIES):
        try:
            return optuna.create_study(storage=storage, load_if_exists=True, **options)
        except (ImportError, ValueError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            if isinstance(error, DBAPIError) and attempt < TRIES - 1:
                time.sleep(0.2 * (attempt + 1))
                continue
            raise ConfigError(
                f"the storage '{storage}' cannot be opened: {str(error).splitlines()[0]}",
                advice="for example sqlite:///study.db, or postgresql://USER@HOST/DB",
            ) from error
    raise AssertionError


def _sampler(method: str, plan: Plan, trials: int, seed: int) -> Any:
    import warnings

    import optuna

    if method == "genetic_algorithm":
        population = max(8, min(50, trials // 5))
        return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    with warnings.catch_warnings():
        # multivariate and group are marked experimental; our own acceptance tests watch over what they do.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        grouped = any(d.when for d in plan.space.dimensions)
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            group=grouped,
            # With fewer random ones a search now and then stays on a lesser slope (benchmarks/explore_search.py).
            n_startup_trials=max(5, min(15, trials // 2)),
            constant_liar=True,
        )


def optuna_state() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _suggest(trial: optuna.Trial, d: Dimension) -> Value:
    if not d.values:
        if d.integer:
            return trial.suggest_int(d.name, int(d.low), int(d.high), log=d.log)
        return float(f"{trial.suggest_float(d.name, d.low, d.high, log=d.log):.6g}")
    if d.ordered:
        # By position: the values given are the scale that matters, whatever their distances.
        return d.values[trial.suggest_int(d.name, 0, len(d.values) - 1)]
    return d.values[list(d.values).index(trial.suggest_categorical(d.name, list(d.values)))]  # type: ignore[arg-type]


def _value(d: Dimension, told: Any) -> Value:
    value: Value = d.values[told] if d.values and d.ordered else told
    return value


def _inverse(d: Dimension, value: Value) -> Any:
    return list(d.values).index(value) if d.values and d.ordered else value
