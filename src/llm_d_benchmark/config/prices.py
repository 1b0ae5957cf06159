"""``spec.prices``: what things cost; a price file is a file with this block alone."""

from __future__ import annotations

from pydantic import Field

from .fields import Model


class PricesConfig(Model):
    """Prices in USD. What is not given is not known: it is left out of every sum, and said so, never taken for 0."""

    gpu_hour: float | None = Field(None, ge=0, description="of one GPU for an hour")
    gpus: int | None = Field(None, ge=1, description="GPUs that are paid for; default: those the collectors saw")
    host_hour: float | None = Field(None, ge=0, description="of the machines without their GPUs, all together, an hour")
    storage_hour: float | None = Field(None, ge=0, description="storage_cost: of model and cache storage, an hour")
    network_gb: float | None = Field(None, ge=0, description="network_cost: of 10^9 bytes sent or received")
    monitoring_hour: float | None = Field(None, ge=0, description="monitoring_cost: an hour")
    maintenance_hour: float | None = Field(None, ge=0, description="maintenance_cost: an hour of operation")
    engineering_hour: float | None = Field(None, ge=0, description="engineering_effort: an hour of operation")
    downtime_hour: float | None = Field(None, ge=0, description="downtime_cost: lost in an hour without service")
