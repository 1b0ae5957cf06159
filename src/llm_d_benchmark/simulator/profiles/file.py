"""Profiles as files: what ``simulator calibrate`` and ``simulator profiles -o`` write and ``profile: FILE`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ...config.explain import explain
from ...config.fields import JsonObject, Model
from ...config.source import read_file, write_text
from ...domain.errors import ConfigError, StoreError
from ..cost import StepCost

HEADER = """\
# How long one engine step takes, with n = prefill_tokens + decode_seqs (docs/profiles.md):
#   fixed + max(weights + experts * (1 - (1 - expert_share) ** n), token * n) + transfer * n
#   + sequence * decode_seqs + context * decode_context + pair * prefill_pairs
# A step without prefill takes what decode_knots say, if there are any, plus context * decode_context.
# Seconds; seconds per token, sequence or query-key pair; kv_bytes_per_token in bytes.
"""


class DecodeKnot(Model):
    """What a step that only decodes so many sequences takes, reading the KV cache aside."""

    sequences: int = Field(ge=1)
    seconds: float = Field(gt=0)


class StepCoefficients(Model):
    """The fields of ``StepCost``."""

    fixed: float = Field(ge=0)
    weights: float = Field(ge=0)
    token: float = Field(ge=0)
    sequence: float = Field(ge=0)
    context: float = Field(ge=0)
    pair: float = Field(ge=0)
    transfer: float = Field(0.0, ge=0)
    experts: float = Field(0.0, ge=0)
    expert_share: float = Field(0.0, ge=0, le=1)
    kv_bytes_per_token: float = Field(0.0, ge=0)
    decode_knots: list[DecodeKnot] = Field(default_factory=list)

    @classmethod
    def of(cls, cost: StepCost) -> StepCoefficients:
        values = {name: getattr(cost, name) for name in cls.model_fields}
        return cls(**values | {"decode_knots": [DecodeKnot(sequences=n, seconds=s) for n, s in cost.decode_knots]})

    def cost(self) -> StepCost:
        knots = tuple((knot.sequences, knot.seconds) for knot in self.decode_knots)
        return StepCost(**dict(self) | {"decode_knots": knots})


class ProfileFile(Model):
    """A profile on disk. It describes one replica as it was measured, so ``tensor_parallel_size`` is part of it."""

    kind: Literal["SimulatorProfile"] = "SimulatorProfile"
    model: str = Field(description="name that the server answers to")
    hardware: str
    source: str = Field(description="what the coefficients come from")
    tensor_parallel_size: int = Field(1, ge=1)
    max_model_len: int = Field(ge=1, description="tokens")
    kv_cache_tokens: int = Field(ge=1, description="tokens that the KV cache of a replica holds")
    request_overhead: float = Field(
        0.0, ge=0, lt=60, description="seconds from a request's arrival until it is queued: HTTP, tokenizing"
    )
    step: StepCoefficients
    calibration: JsonObject | None = Field(None, description="runs, levels and errors of a calibration")

    @property
    def cost(self) -> StepCost:
        return self.step.cost()


def read_profile(path: Path) -> ProfileFile:
    """A profile file.

    Raises:
        ConfigError: it cannot be read or is no profile; each mistake with file, line and key.
    """
    document = read_file(path)
    if document.is_mapping and "step" not in document.value:
        raise ConfigError(
            f"{path}: this is no simulator profile: it has no 'step'",
            advice="llm-d-benchmark simulator calibrate RUN... -o profile.yaml writes one",
        )
    try:
        profile = ProfileFile.model_validate(document.plain())
        profile.cost  # noqa: B018 - its own checks
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError("\n".join(_explain(document, d) for d in details)) from None
    except ValueError as error:
        raise ConfigError(f"{document.value['step'].origin}: step.{error}") from None
    return profile


def _explain(document: Any, detail: Any) -> str:
    if detail["type"] != "extra_forbidden":
        return explain(document, detail)
    *parents, key = detail["loc"]
    model = StepCoefficients if parents == ["step"] else ProfileFile
    origin = document.get(*detail["loc"]).origin
    return (
        f"{origin}: {'.'.join(map(str, detail['loc']))}: unknown key '{key}' (allowed: {', '.join(model.model_fields)})"
    )


def write_profile(path: Path, profile: ProfileFile) -> None:
    """Write a profile that ``read_profile`` reads back.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        path.write_text(HEADER + write_text(profile.model_dump(exclude_none=True)), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
