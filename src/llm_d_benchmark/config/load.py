"""The common keys of every load generator's ``config``: how much load, of what shape, with which requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from .fields import JsonObject, Model, Seconds

Endpoint = Literal["chat", "completions"]


PROCESSES = ("constant", "poisson", "gamma")
"""Arrival types that happen at ``request_rate``; the others bring their own times or rates."""


def _refuse_others(model: Model, what: str, taken: Collection[str]) -> None:
    """Raises ValueError for a key that is set but would have no effect."""
    for name, info in type(model).model_fields.items():
        if name not in taken and getattr(model, name) != info.default:
            raise ValueError(f"{what} does not use '{name}'; it takes {', '.join(sorted(taken)) or 'nothing else'}")


class Length(Model):
    """A distribution of token lengths. A plain number is ``{distribution: fixed, value: N}``."""

    distribution: Literal["fixed", "uniform", "normal", "lognormal", "file"] = Field(
        "fixed", description="form of the distribution"
    )
    value: int | None = Field(None, ge=1, description="fixed: the length in tokens")
    mean: float | None = Field(None, gt=0, description="normal, lognormal: mean in tokens")
    std_dev: float | None = Field(None, ge=0, description="normal, lognormal: standard deviation in tokens")
    min: int | None = Field(None, ge=1, description="least length; uniform: required")
    max: int | None = Field(None, ge=1, description="greatest length; uniform: required")
    path: str | None = Field(
        None, description="file: a text file with one length per line (also the first column of a CSV)"
    )

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return {"distribution": "fixed", "value": value} if isinstance(value, int) else value

    @model_validator(mode="after")
    def _complete(self) -> Length:
        needed = {
            "fixed": ("value",),
            "uniform": ("min", "max"),
            "normal": ("mean", "std_dev"),
            "lognormal": ("mean", "std_dev"),
            "file": ("path",),
        }[self.distribution]
        missing = [k for k in needed if getattr(self, k) is None]
        if missing:
            raise ValueError(f"distribution '{self.distribution}' needs {', '.join(missing)}")
        bounds = () if self.distribution == "fixed" else ("min", "max")
        _refuse_others(self, f"distribution '{self.distribution}'", {"distribution", *needed, *bounds})
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is greater than max ({self.max})")
        return self


class Arrival(Model):
    """When requests of an open loop start. A plain word is ``{type: WORD}``.

    ``ramp``, ``steps`` and ``spikes`` shape the rate over time; ``process`` says how requests arrive at that rate.
    """

    type: Literal["constant", "poisson", "gamma", "trace", "ramp", "steps", "spikes"] = Field(
        "constant",
        description="constant, poisson, gamma: at request_rate; trace: its own times; others: a rate that changes",
    )
    process: Literal["constant", "poisson", "gamma"] = Field(
        "constant", description="ramp, steps, spikes: arrivals at the shaped rate"
    )
    burstiness: float = Field(
        1.0, gt=0, description="gamma: shape of the gaps; 1 is Poisson, below 1 burstier, above 1 more regular"
    )
    from_rate: float | None = Field(
        None,
        gt=0,
        validation_alias=AliasChoices("from", "from_rate"),
        serialization_alias="from_rate",
        description="ramp: requests/s at the start",
    )
    to_rate: float | None = Field(
        None,
        gt=0,
        validation_alias=AliasChoices("to", "to_rate"),
        serialization_alias="to_rate",
        description="ramp: requests/s at the end",
    )
    rates: list[float] | None = Field(None, description="steps: requests/s of each step, equally long")
    peak: float | None = Field(None, gt=0, description="spikes: requests/s during a spike; request_rate holds between")
    every: Seconds | None = Field(None, description="spikes: seconds from one spike's start to the next")
    length: Seconds | None = Field(None, description="spikes: length of a spike")
    speedup: float = Field(1.0, gt=0, description="trace: replay this many times faster")

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> Arrival:
        needed = {"ramp": ("from_rate", "to_rate"), "steps": ("rates",), "spikes": ("peak", "every", "length")}
        missing = [k.removesuffix("_rate") for k in needed.get(self.type, ()) if getattr(self, k) is None]
        if missing:
            raise ValueError(f"arrival '{self.type}' needs {', '.join(missing)}")
        if self.rates is not None and (any(r < 0 for r in self.rates) or not any(self.rates)):
            raise ValueError("arrival 'steps': rates must not be negative, and one must be above 0")
        if self.every is not None and self.length is not None and not 0 < self.length < self.every:
            raise ValueError("arrival 'spikes': length must be above 0 and below 'every'")
        taken = {"type", *needed.get(self.type, ())} | ({"process"} if self.type in needed else set())
        taken |= {"burstiness"} if "gamma" in (self.type, self.process) else set()
        taken |= {"speedup"} if self.type == "trace" else set()
        _refuse_others(self, f"arrival '{self.type}'", taken)
        return self


class Timeouts(Model):
    """Time limits of one request."""

    connect: Seconds = Field(10.0, gt=0, description="for the connection (TCP and TLS)")
    first_token: Seconds = Field(120.0, gt=0, description="from sending to the first content")
    total: Seconds = Field(600.0, gt=0, description="from sending to the end, retries included")


class Retries(Model):
    """Retries are off unless asked for; a retried request keeps its first ``sent``."""

    max: int = Field(0, ge=0, le=10, description="attempts beyond the first")
    on: list[Literal["connect", "http_429", "http_5xx", "timeout_first_token"]] = Field(
        ["connect", "http_429", "http_5xx"], description="failures that are tried again"
    )
    backoff: Seconds = Field(0.5, ge=0, description="wait before the first retry; doubles with each; Retry-After wins")


class ModelShare(Model):
    """A model or LoRA name and its share of the requests."""

    name: str = Field(description="model or LoRA name to ask for")
    weight: float = Field(1.0, gt=0, description="share of the requests, relative to the others")


class Sweep(Model):
    """A search for the saturation knee: load grows until the server no longer follows, then the knee is bracketed."""

    over: Literal["rate", "concurrency"] = Field("rate", description="what grows")
    start: float = Field(1.0, gt=0, description="first requests/s or concurrency")
    max: float | None = Field(None, gt=0, description="never go beyond")
    growth: float = Field(2.0, gt=1, description="factor from one level to the next while the server follows")
    refine: int = Field(3, ge=0, description="levels to measure between the last good and the first bad one")
    max_stages: int = Field(16, ge=2, description="measure no more stages than this")


class Shape(Model):
    """The load keys that a stage may set for itself."""

    concurrency: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("concurrency", "concurrent_requests", "connections"),
        description="requests in flight at once; with request_rate: a cap; also concurrent_requests, connections",
    )
    request_rate: float | None = Field(None, gt=0, description="requests/s offered, whatever the server does")
    arrival: Arrival | None = Field(None, description="when the requests of an open loop start; default: constant")
    num_requests: int | None = Field(None, ge=1, description="end the stage after this many requests")
    duration: Seconds | None = Field(None, gt=0, description="length of the measured window")
    warmup: Seconds | None = Field(None, ge=0, description="load before the window; default: spec.benchmark.warmup")
    cooldown: Seconds | None = Field(None, ge=0, description="load after the window; default: spec.benchmark.cooldown")
    ramp: Seconds | None = Field(None, ge=0, description="closed loop: seconds over which the users start")


class StageConfig(Shape):
    """One stage: what it does not set, it takes from the generator's own keys."""

    name: str | None = Field(None, description="name in tables and reports; default: its load")


_OWN_FIELDS = {"model": "models", "messages": "workload", "prompt": "workload", "stream": "streaming"}
"""Fields of a request that a key of the configuration sets."""
_LIMITS = ("max_tokens", "max_completion_tokens")
_ASKING = ("synthetic", "shared_prefix", "conversation", "trace")
"""Workloads that ask for an output length with every request."""


class LoadConfig(Shape):
    """``config`` of a load generator: the keys every generator understands, and its own under ``native``."""

    input_length: Length | None = Field(
        None, description="prompt tokens: a number or a distribution; synthetic prompts: 256"
    )
    output_length: Length | None = Field(
        None, description="tokens to generate: a number or a distribution; synthetic prompts: 128"
    )
    seed: int = Field(0, description="the same seed gives the same requests at the same times")
    streaming: bool = Field(True, description="ask for a stream; without one there is no ttft, itl and tpot")
    endpoint: Endpoint | None = Field(
        None, description="chat or completions; default: chat, of some external tools completions"
    )
    stages: list[StageConfig] = Field([], description="loads run one after another, each with a window of its own")
    sweep: Sweep | None = Field(None, description="search for the saturation knee")
    workload: Annotated[
        JsonObject, Field(description="{type: synthetic | shared_prefix | conversation | dataset | trace, ...}")
    ] = {"type": "synthetic"}
    parameters: JsonObject = Field(
        {},
        description="passed through into every request: temperature, top_p, ignore_eos, stop, ...; "
        "nothing that has a key of its own",
    )
    models: list[ModelShare] = Field(
        [], description="several models or LoRA names, drawn by weight; default: the target's model"
    )
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    workers: int | None = Field(
        None, ge=1, validation_alias=AliasChoices("workers", "threads"), description="client processes"
    )
    native: JsonObject = Field({}, description="passed to the generator as it is")

    @field_validator("parameters")
    @classmethod
    def _passed_through(cls, value: JsonObject, info: ValidationInfo) -> JsonObject:
        """What has a key of its own, or would contradict one, is not passed through."""
        for name in sorted(value.keys() & _OWN_FIELDS.keys()):
            raise ValueError(f"'{name}' cannot be passed through; '{_OWN_FIELDS[name]}' sets it")
        asked = _output_asked(info.data)
        for name in _LIMITS:
            if asked is not None and value.get(name) not in (None, asked):
                raise ValueError(f"'{name}' contradicts the output length that is asked for; set 'output_length'")
        return value

    @model_validator(mode="after")
    def _one_shape(self) -> LoadConfig:
        if self.sweep and self.stages:
            raise ValueError("give either 'stages' or 'sweep', not both")
        if self.sweep:
            self._check_sweep(self.sweep)
            return self
        if not self.stages:
            _check_shape(self, "")
        for i, stage in enumerate(self.stages):
            _check_shape(load_of(stage, self), f"stage {i}: ")
        return self

    def _check_sweep(self, sweep: Sweep) -> None:
        if self.request_rate is not None or (self.concurrency is not None and sweep.over == "concurrency"):
            raise ValueError(f"a sweep over {sweep.over} chooses the load itself; leave it out beside 'sweep'")
        if self.arrival is not None and (sweep.over == "concurrency" or self.arrival.type not in PROCESSES):
            raise ValueError(f"a sweep over {sweep.over} cannot have arrival '{self.arrival.type}'")
        if self.ramp and sweep.over == "rate":
            raise ValueError("'ramp' starts the users of a closed loop, and a sweep over rate is an open loop")


def _output_asked(load: Mapping[str, Any]) -> object:
    """The output length that every request asks for: the tokens, or the distribution; None where the server decides."""
    workload = load.get("workload", {})
    asked = workload.get("output_length", load.get("output_length"))
    if asked is None and workload.get("type", "synthetic") in _ASKING:
        return "default"
    return asked.value or asked if isinstance(asked, Length) else asked


def load_of(stage: Shape, defaults: Shape) -> Shape:
    """A stage's load as it will be run: one that names a load of its own does not inherit the other load keys."""
    if stage.concurrency is None and stage.request_rate is None and stage.arrival is None:
        return defaults if stage.ramp is None else defaults.model_copy(update={"ramp": stage.ramp})
    if stage.arrival is None and stage.request_rate is not None and defaults.arrival is not None:
        return stage.model_copy(update={"arrival": defaults.arrival})
    return stage


def _check_shape(shape: Shape, where: str) -> None:
    """Raises ValueError for load keys that contradict each other or would have no effect."""
    kind = shape.arrival.type if shape.arrival else None
    if shape.request_rate is None and kind in (*PROCESSES, "spikes"):
        raise ValueError(f"{where}arrival '{kind}' needs request_rate")
    if shape.request_rate is not None and kind in ("ramp", "steps", "trace"):
        raise ValueError(f"{where}arrival '{kind}' says by itself how many requests there are; leave out request_rate")
    if shape.ramp and (shape.request_rate is not None or kind is not None):
        raise ValueError(
            f"{where}'ramp' starts the users of a closed loop; of an open loop write arrival: {{type: ramp}}"
        )
