"""``spec.collectors``: what is collected beside the load."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from .fields import Model, Seconds


def _metrics_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{url}' is not an http or https URL; write for example http://host:8000/metrics")
    if parts.username or parts.password:
        raise ValueError("a metrics URL must not hold a user name or password")
    return url


MetricsUrl = Annotated[str, AfterValidator(_metrics_url)]


class CollectorsConfig(Model):
    """Time series beside the load. A source that fails degrades the result with a reason, never the measurement."""

    interval: Seconds = Field(1.0, ge=0.1, le=60, description="time between two samples of a series")
    host: bool = Field(True, description="CPU, memory, disk and network of this machine and of a server started here")
    scrape: list[MetricsUrl] | None = Field(
        None, description="/metrics endpoints; default: those the target names, else its own; [] for none"
    )
