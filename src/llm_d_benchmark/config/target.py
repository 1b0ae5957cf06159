"""``spec.target``: where the server under test comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .fields import ByteSize, JsonObject, Model, Seconds


class SecretSource(Model):
    """A secret, by the name of an environment variable or the path of a file; never its value."""

    env: str | None = None
    file: str | None = None


class ExistingTargetConfig(Model):
    """Any OpenAI-compatible server that is already running."""

    url: str
    model: str | None = Field(None, description="default: the first model the server lists")
    api_key: SecretSource | None = Field(None, description="default: OPENAI_API_KEY where it is set")
    headers: dict[str, str | SecretSource] = {}
    ca_file: str | None = None
    verify_tls: bool = True
    tokenizer: str | None = Field(None, description="folder with tokenizer.json for exact lengths ([tokenizers] extra)")


class ProcessTargetConfig(Model):
    """A server that is started for the run and stopped after it.

    ``command`` is a list of arguments; ``{port}``, ``{host}``, ``{model}`` and every key of ``args`` are filled in.
    """

    command: list[str] = Field(min_length=1)
    args: JsonObject = Field({}, description="values for the placeholders of the command")
    env: dict[str, str] = {}
    cwd: str | None = None
    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=1, le=65535, description="default: a free port")
    model: str | None = None
    health_path: str = "/health"
    ready_timeout: Seconds = Field(600.0, gt=0)
    stop_timeout: Seconds = Field(20.0, gt=0)
    api_key: SecretSource | None = None
    tokenizer: str | None = None


class LocalTargetConfig(Model):
    """The real small model on this machine ([local] extra): llama.cpp and Gemma 3 270M."""

    model_path: str | None = Field(None, description="another GGUF file; default: the packaged 270M model")
    slots: int = Field(4, ge=1, le=256, description="sequences in parallel (n_parallel)")
    context: int = Field(8192, ge=256, description="tokens of context over all slots (n_ctx)")
    batch: int = Field(2048, ge=1, description="tokens per batch (n_batch)")
    ubatch: int = Field(512, ge=1, description="tokens per physical batch (n_ubatch)")
    threads: int | None = Field(None, ge=1, description="default: all cores but one, which is left to the client")
    flash_attention: Literal["auto", "on", "off"] = "auto"
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    port: int | None = Field(None, ge=1, le=65535)
    ready_timeout: Seconds = Field(120.0, gt=0)


class TargetConfig(Model):
    """``{type: T, T: {...}}``. Third-party targets keep their block as it is."""

    type: str
    existing: ExistingTargetConfig | None = None
    process: ProcessTargetConfig | None = None
    local: LocalTargetConfig | None = None
    simulator: JsonObject | None = None
    kubernetes: JsonObject | None = None


__all__ = [
    "ByteSize",
    "ExistingTargetConfig",
    "LocalTargetConfig",
    "ProcessTargetConfig",
    "SecretSource",
    "TargetConfig",
]
