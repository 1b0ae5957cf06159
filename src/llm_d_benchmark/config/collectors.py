"""``spec.collectors``: what is collected beside the load."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from .fields import Model, Seconds
from .target import HeaderName, HeaderValue, SecretSource


def _metrics_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{url}' is not an http or https URL; write for example http://host:8000/metrics")
    if parts.username or parts.password:
        raise ValueError(
            "a metrics URL must not hold a user name or password; give those of a Prometheus as username and password: "
            "{env: NAME} in spec.collectors.prometheus"
        )
    return url


def _pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' is not a regular expression: {error}") from None
    return pattern


MetricsUrl = Annotated[str, AfterValidator(_metrics_url)]
Pattern = Annotated[str, AfterValidator(_pattern)]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


class PrometheusConfig(Model):
    """A Prometheus server whose series of the run's time are kept."""

    url: MetricsUrl | None = Field(
        None, description="where it answers; default: spec.cluster.monitoring.prometheus_url, where that is enabled"
    )
    queries: dict[str, str] | None = Field(
        None, description="name: PromQL; default: metrics of vLLM, the llm-d router, DCGM, containers and nodes"
    )
    labels: dict[LabelName, str] = Field(
        {}, description="only series with these labels, in the default queries: {namespace: llm-d}"
    )
    bearer_token: SecretSource | None = Field(None, description="sent as Authorization: Bearer")
    username: str | None = Field(None, description="of a server that wants a user name and a password")
    password: SecretSource | None = Field(None, description="the password to it")
    headers: dict[HeaderName, HeaderValue] = Field(
        {}, description="sent with every query, such as {X-Scope-OrgID: tenant}; secrets as {env: NAME}"
    )
    ca_file: str | None = Field(None, description="certificates to verify an https server with")
    verify_tls: bool = Field(True, description="false accepts any certificate")

    @model_validator(mode="after")
    def _one_way_in(self) -> PrometheusConfig:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.username is not None and self.bearer_token is not None:
            raise ValueError("give either bearer_token, or username and password")
        return self


class LogsConfig(Model):
    """Log files that are followed; error patterns are counted, lines are not kept."""

    enabled: bool = Field(True, description="follow logs")
    paths: list[str] = Field([], description="more files, or patterns such as /var/log/vllm/*.log")
    patterns: dict[LabelName, Pattern] = Field({}, description="name: regular expression, beside the built-in ones")


class CollectorsConfig(Model):
    """Time series beside the load. A source that fails degrades the result with a reason, never the measurement."""

    interval: Seconds = Field(1.0, ge=0.1, le=60, description="time between two samples of a series")
    host: bool = Field(True, description="CPU, memory, disk and network of this machine and of a server started here")
    scrape: list[MetricsUrl] | None = Field(
        None, description="/metrics endpoints; default: those the target names, else its own; [] for none"
    )
    prometheus: PrometheusConfig = PrometheusConfig()
    gpu: Literal["auto", "on", "off"] = Field(
        "auto", description="NVIDIA GPUs of this machine, through NVML; auto: where the server runs on it"
    )
    logs: LogsConfig = LogsConfig()
