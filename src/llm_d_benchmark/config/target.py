"""``spec.target``: where the server under test comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from .fields import ByteSize, JsonObject, Model, Seconds
from .simulator import SimulatorTargetConfig
from .spelling import nearest


class SecretSource(Model):
    """A secret, by the name of an environment variable or the path of a file; never its value."""

    env: str | None = Field(None, description="name of an environment variable")
    file: str | None = Field(None, description="path of a file that holds nothing else")

    @model_validator(mode="after")
    def _one(self) -> SecretSource:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either 'env: NAME' or 'file: PATH'")
        return self


def _server_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"'{url}' is not a URL: {error}") from None
    if parts.username or parts.password:
        raise ValueError("a URL must not hold a user name or password; use api_key or headers with {env: NAME}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{url}' is not an http or https URL; write for example http://localhost:8000")
    if parts.query or parts.fragment:
        raise ValueError(f"'{parts.scheme}://{parts.netloc}{parts.path}': a server's URL has no part behind '?' or '#'")
    return url


def _header_name(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError(f"'{name}' is no name of a header: letters, digits and - without spaces")
    if name.lower() in ("content-length", "transfer-encoding"):
        raise ValueError(f"{name} follows from each request's body and cannot be set")
    return name


def header_text(value: str) -> str:
    """A header's value as it is; raises ValueError, without the value, where HTTP does not allow it."""
    if re.search(r"[^\t -~\xa0-\xff]", value):
        raise ValueError("a header holds one line of printable Latin-1 characters, and nothing else")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[
    Annotated[str, AfterValidator(header_text), Tag("text")] | Annotated[SecretSource, Tag("secret")],
    Discriminator(lambda value: "secret" if isinstance(value, Mapping | SecretSource) else "text"),
]
ServerUrl = Annotated[str, AfterValidator(_server_url)]
BLOCKS = ("existing", "process", "local", "simulator", "kubernetes")


class ExistingTargetConfig(Model):
    """Any OpenAI-compatible server that is already running."""

    url: ServerUrl = Field(description="base URL, with or without /v1, e.g. http://localhost:8000")
    model: str | None = Field(None, description="default: the first model the server lists")
    api_key: SecretSource | None = Field(None, description="default: OPENAI_API_KEY where it is set")
    headers: dict[HeaderName, HeaderValue] = Field({}, description="sent with every request; secrets as {env: NAME}")
    ca_file: str | None = Field(None, description="certificates to trust, PEM; default: the system's")
    verify_tls: bool = Field(True, description="false accepts any certificate")
    tokenizer: str | None = Field(None, description="folder with tokenizer.json for exact lengths ([tokenizers] extra)")


class ProcessTargetConfig(Model):
    """A server that is started for the run and stopped after it.

    ``command`` is a list of arguments; ``{port}``, ``{host}``, ``{model}`` and every key of ``args`` are filled in.
    """

    command: list[str] = Field(
        min_length=1, description='program and arguments, e.g. [vllm, serve, "{model}", --port, "{port}"]'
    )
    args: JsonObject = Field({}, description="values for the placeholders of the command")
    env: dict[str, str] = Field({}, description="variables over those of this command, which the server inherits")
    cwd: str | None = Field(None, description="working directory; default: the current one")
    host: str = Field("127.0.0.1", description="address that {host} and the probes use")
    port: int | None = Field(None, ge=1, le=65535, description="default: a free port")
    model: str | None = Field(
        None, description="fills {model} and is asked for in requests; default: what the server lists"
    )
    health_path: str = Field("/health", description="answers 200 once the server is ready")
    ready_timeout: Seconds = Field(600.0, gt=0, description="longest wait for that")
    stop_timeout: Seconds = Field(20.0, gt=0, description="wait after SIGTERM before SIGKILL")
    api_key: SecretSource | None = Field(
        None, description="key the server was started with; default: OPENAI_API_KEY where it is set"
    )
    tokenizer: str | None = Field(None, description="folder with tokenizer.json for exact lengths ([tokenizers] extra)")


class LocalTargetConfig(Model):
    """The real small model on this machine ([local] extra): llama.cpp and Gemma 3 270M."""

    model_path: str | None = Field(None, description="another GGUF file; default: the packaged 270M model")
    slots: int = Field(4, ge=1, le=256, description="sequences in parallel (n_parallel)")
    context: int = Field(8192, ge=256, description="tokens of context over all slots (n_ctx)")
    batch: int = Field(2048, ge=1, description="tokens per batch (n_batch)")
    ubatch: int = Field(512, ge=1, description="tokens per physical batch (n_ubatch)")
    threads: int | None = Field(None, ge=1, description="default: all cores but one, which is left to the client")
    flash_attention: Literal["auto", "on", "off"] = Field("auto", description="as llama.cpp understands it")
    cache_type_k: str = Field("f16", description="type of the K cache: f16, q8_0, ...")
    cache_type_v: str = Field("f16", description="type of the V cache")
    port: int | None = Field(None, ge=1, le=65535, description="default: a free port")
    ready_timeout: Seconds = Field(120.0, gt=0, description="longest wait for the model to load")


class TargetConfig(Model):
    """``{type: T, T: {...}}``. Third-party targets keep their block as it is."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="existing, process, local, ...; default: the one block that is given")
    existing: ExistingTargetConfig | None = None
    process: ProcessTargetConfig | None = None
    local: LocalTargetConfig | None = None
    simulator: SimulatorTargetConfig | None = None
    kubernetes: JsonObject | None = Field(None, description="options of a deployment on Kubernetes")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """A word is a type; one block alone says the type; a local target or a simulator needs no block."""
        data = {"type": value} if isinstance(value, str) else value
        if not isinstance(data, Mapping):
            return data
        blocks = [k for k in data if k != "type"]
        if "type" not in data and len(blocks) == 1:
            data = {"type": blocks[0], **data}
        kind = data.get("type")
        return {kind: {}, **data} if kind in ("local", "simulator") else data

    @model_validator(mode="after")
    def _own_block(self) -> TargetConfig:
        for key in self.model_extra or {}:
            if key != self.type:
                raise ValueError(f"unknown key '{key}'{nearest(key, ('type', *BLOCKS))}")
        given = [b for b in BLOCKS if getattr(self, b) is not None]
        if given and self.type not in BLOCKS:
            raise ValueError(f"type is '{self.type}', but the block given is '{given[0]}'{nearest(self.type, BLOCKS)}")
        needs = {"existing": "url", "process": "command"}.get(self.type)
        if needs and getattr(self, self.type) is None:
            raise ValueError(f"a target of type '{self.type}' needs {self.type}.{needs}")
        return self


__all__ = [
    "ByteSize",
    "ExistingTargetConfig",
    "LocalTargetConfig",
    "ProcessTargetConfig",
    "SecretSource",
    "TargetConfig",
]
