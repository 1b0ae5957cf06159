"""``spec.target.simulator``: the inference server model, its replicas and its router."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .fields import Model, Seconds
from .load import Length

RouterPolicy = Literal[
    "random", "round_robin", "least_requests", "least_kv", "prefix_aware", "session_affinity", "weighted"
]


class RouterConfig(Model):
    """How a request finds its replica."""

    policy: RouterPolicy = Field(
        "weighted", description="weighted combines the scorers below, as the llm-d router does"
    )
    queue_weight: float = Field(1.0, ge=0, description="weighted: fewer waiting requests")
    kv_cache_utilization_weight: float = Field(1.0, ge=0, description="weighted: less KV cache in use")
    prefix_cache_weight: float = Field(2.0, ge=0, description="weighted: more of the prompt in the prefix cache")

    @model_validator(mode="after")
    def _some_weight(self) -> RouterConfig:
        if self.policy == "weighted" and not (
            self.queue_weight + self.kv_cache_utilization_weight + self.prefix_cache_weight
        ):
            raise ValueError(
                "policy: 'weighted' needs a queue_weight, kv_cache_utilization_weight or prefix_cache_weight above 0"
            )
        return self

    @property
    def needs_prefix_cache(self) -> str | None:
        """The key because of which nothing but prefix caches tells replicas apart; None where something else does."""
        if self.policy == "prefix_aware":
            return "policy"
        alone = self.policy == "weighted" and not (self.queue_weight or self.kv_cache_utilization_weight)
        return "prefix_cache_weight" if alone else None


class DisaggregationConfig(Model):
    """Prefill and decode on replicas of their own, with the KV cache sent between them."""

    prefill_replicas: int = Field(ge=1, description="replicas that only prefill; the others only decode")
    transfer_bandwidth: float = Field(50e9, gt=0, description="bytes/s of the KV transfer between two replicas")
    transfer_latency: Seconds = Field(0.001, ge=0, description="fixed part of a KV transfer")


class FailureConfig(Model):
    """What goes wrong on purpose. Rates are fractions of requests, drawn from the seed."""

    http_429_rate: float = Field(0.0, ge=0, le=1, description="answered 429 at once")
    http_500_rate: float = Field(0.0, ge=0, le=1, description="answered 500 at once")
    stall_rate: float = Field(0.0, ge=0, le=1, description="streams that stop half-way for stall_time")
    stall_time: Seconds = Field(30.0, gt=0, description="length of a stall")
    cut_rate: float = Field(0.0, ge=0, le=1, description="answers whose connection is closed half-way")
    max_queue: int | None = Field(
        None, ge=0, description="requests per replica that may wait for a place in its batch; more are answered 429"
    )
    slow_replicas: dict[str, float] = Field({}, description="replica number: its steps take this many times as long")

    @model_validator(mode="after")
    def _one_fate(self) -> FailureConfig:
        names = ("http_429_rate", "http_500_rate", "stall_rate", "cut_rate")
        given = [name for name in names if getattr(self, name)]
        if (whole := sum(getattr(self, name) for name in given)) > 1:
            raise ValueError(f"{given[-1]}: {' + '.join(given)} is {whole:g}: a request has one fate, so at most 1")
        return self


class SimulatorTargetConfig(Model):
    """A simulated deployment. Keys that vLLM has carry vLLM's names."""

    profile: str = Field(
        "llama-3.1-8b/h100", description="MODEL/HARDWARE of the built-in tables, or a file that calibrate wrote"
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs of one replica")
    model: str | None = Field(None, description="name the server answers to; default: the profile's model")
    replicas: int = Field(1, ge=1, description="data-parallel replicas behind the router")
    max_num_seqs: int = Field(256, ge=1, description="sequences in one batch")
    max_num_batched_tokens: int = Field(
        8192, ge=1, description="tokens in one step; longer prompts are prefilled in chunks"
    )
    max_model_len: int | None = Field(None, ge=1, description="longest sequence; default: the model's")
    block_size: int = Field(16, ge=1, description="tokens of one KV block")
    num_gpu_blocks: int | None = Field(None, ge=1, description="KV blocks of a replica; default: what its memory holds")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="part of the GPU's memory that may be used")
    enable_prefix_caching: bool = Field(True, description="share the KV blocks of equal prefixes")
    router: RouterConfig = RouterConfig()
    disaggregation: DisaggregationConfig | None = None
    failures: FailureConfig = FailureConfig()
    startup_time: Seconds = Field(0.0, ge=0, description="time until the server is ready")
    output_length: Length | None = Field(
        None, description="where an answer ends by itself, unless ignore_eos is asked for; default: at max_tokens"
    )
    step_noise: float = Field(0.0, ge=0, le=1, description="relative standard deviation of a step's time")
    api_key_env: str | None = Field(None, description="variable with the key that requests must carry")
    seed: int = Field(0, ge=0, description="of failures, noise, output lengths and random routing")
    port: int | None = Field(
        None, ge=1, le=65535, description="of the router; default: a free port; replicas follow it"
    )
    speed: float = Field(1.0, gt=0, description="real clock: this many times faster than the model says")

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.replicas * self.tensor_parallel_size

    @model_validator(mode="after")
    def _consistent(self) -> SimulatorTargetConfig:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens: {self.max_num_batched_tokens} is below max_num_seqs, {self.max_num_seqs}: a "
                "full batch would not fit into a step"
            )
        if self.block_size & (self.block_size - 1):
            raise ValueError(f"block_size: {self.block_size} is not a power of two; vLLM takes 8, 16, 32, 64, 128")
        if not self.enable_prefix_caching and (key := self.router.needs_prefix_cache):
            raise ValueError(
                f"router.{key}: '{self.router.policy}' would look at prefix caches only, and enable_prefix_caching is "
                "false; set it to true, or take another policy"
            )
        if self.disaggregation is not None and self.disaggregation.prefill_replicas >= self.replicas:
            raise ValueError(
                f"disaggregation.prefill_replicas: {self.disaggregation.prefill_replicas} of {self.replicas} replicas "
                "leave none to decode; raise replicas, or take fewer"
            )
        for name, factor in self.failures.slow_replicas.items():
            if name not in map(str, range(self.replicas)):
                raise ValueError(
                    f"failures.slow_replicas: there is no replica '{name}'; there are 0 to {self.replicas - 1}"
                )
            if factor <= 0:
                raise ValueError(f"failures.slow_replicas.{name}: {factor} is not above 0")
        return self
