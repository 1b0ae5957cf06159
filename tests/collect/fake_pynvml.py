"""What of NVML's Python module the collector calls, with two GPUs: machines that run the tests have none."""

from __future__ import annotations

from types import SimpleNamespace

NVML_TEMPERATURE_GPU = 0


class NVMLError(Exception):
    pass


class Fake:
    """A stand-in for the module ``pynvml``; the second GPU does not tell its power."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = NVML_TEMPERATURE_GPU

    def __init__(self, gpus: int = 2, broken: bool = False) -> None:
        self.gpus, self.broken, self.open = gpus, broken, 0

    def nvmlInit(self) -> None:  # noqa: N802 - as NVML calls it
        if self.broken:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return "NVIDIA A100-SXM4-80GB"

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> object:  # noqa: N802
        return SimpleNamespace(gpu=50 + 20 * handle, memory=10)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> object:  # noqa: N802
        return SimpleNamespace(used=60 * 2**30, free=20 * 2**30, total=80 * 2**30)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        if handle == 1:
            raise NVMLError("Not Supported")
        return 250_000

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        return 40 + handle
