"""NVIDIA GPUs of this machine, through NVML ([gpu] extra)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import Any, Literal

from ..domain.events import Finding, Severity
from ..domain.samples import Samples, Series
from .api import LAST_S, CollectJob, ticks

GPU = "gpu"
MIB = 2.0**20
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class GpuCollector:
    """Series of source ``gpu`` with labels ``gpu`` (index), ``uuid`` and ``model``: utilisation in percent, memory in
    MiB, power in watts, temperature in degrees Celsius; units and meaning are those of DCGM.

    Args:
        wanted: ``on``: a machine without NVML or GPU is a finding; ``auto``: look only where the server runs on this
            machine, and say nothing where there is none.
    """

    name = "gpu"
    last_s = LAST_S

    def __init__(self, wanted: Literal["auto", "on"]) -> None:
        self._wanted = wanted

    async def collect(self, job: CollectJob) -> AsyncIterator[Samples | Finding]:
        if self._wanted == "auto" and job.endpoint.pid is None and job.endpoint.host not in LOCAL:
            return
        try:
            nvml = import_module("pynvml")
        except ImportError:
            if self._wanted == "on":
                yield _missing("nvidia-ml-py is not installed", "install the [gpu] extra")
            return
        devices: list[_Device] = []
        try:
            await asyncio.to_thread(nvml.nvmlInit)
            devices = [_Device(nvml, i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            if self._wanted == "on":
                yield _missing(f"NVML says: {error}", "see whether nvidia-smi works on this machine")
            return
        if not devices and self._wanted == "on":
            yield _missing("NVML sees no GPU", "see whether nvidia-smi works on this machine")
        try:
            async for _ in ticks(job):
                if not devices:
                    return
                began = time.monotonic_ns()
                # a call to the driver may take milliseconds, which the event loop does not have
                found = await asyncio.to_thread(lambda: [row for device in devices for row in device.read()])
                now = (began + time.monotonic_ns()) // 2 + job.clock_offset
                yield Samples.from_rows((now, series, value) for series, value in found)
        finally:
            nvml.nvmlShutdown()


class _Device:
    """One GPU. What it does not support (power of a virtual GPU) has no samples."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        labels = {
            "gpu": str(index),
            "model": str(nvml.nvmlDeviceGetName(self._handle)),
            "uuid": str(nvml.nvmlDeviceGetUUID(self._handle)),
        }
        self._labels = tuple(sorted(labels.items()))

    def read(self) -> Iterator[tuple[Series, float]]:
        nvml, handle = self._nvml, self._handle
        use = self._ask(nvml.nvmlDeviceGetUtilizationRates)
        if use is not None:
            yield self._series("gpu_utilization_percent"), float(use.gpu)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        if memory is not None:
            yield self._series("gpu_memory_used_mib"), memory.used / MIB
            yield self._series("gpu_memory_free_mib"), memory.free / MIB
        power = self._ask(nvml.nvmlDeviceGetPowerUsage)
        if power is not None:
            yield self._series("gpu_power_watts"), power / 1000
        try:
            degrees = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            yield self._series("gpu_temperature_celsius"), float(degrees)
        except nvml.NVMLError:
            return

    def _ask(self, question: Any) -> Any:
        try:
            return question(self._handle)
        except self._nvml.NVMLError:
            return None

    def _series(self, metric: str) -> Series:
        return Series(GPU, metric, self._labels)


def _missing(reason: str, advice: str) -> Finding:
    return Finding(
        "gpu_not_collected",
        Severity.WARNING,
        f"GPUs were asked for (spec.collectors.gpu: on), but {reason}",
        advice,
    )
