"""Each GPU by itself, beside the means over all: an idle or a full one does not show in a mean."""

from __future__ import annotations

from ..domain.result import Absent, GpuUse, Measured, Scalar
from .span import Span, ratio
from .timeseries import Line

USE = ("DCGM_FI_DEV_GPU_UTIL", "gpu_utilization_percent")
MEMORY_USED, MEMORY_FREE = (
    ("DCGM_FI_DEV_FB_USED", "gpu_memory_used_mib"),
    ("DCGM_FI_DEV_FB_FREE", "gpu_memory_free_mib"),
)
POWER = ("DCGM_FI_DEV_POWER_USAGE", "gpu_power_watts")
NOT_TOLD = Absent("this GPU does not tell it")


def utilization(span: Span) -> float | None:
    """Mean over all GPUs."""
    percent = span.mean(*USE)
    return None if percent is None else percent / 100


def memory_usage(span: Span) -> float | None:
    """Share of the memory of all GPUs together."""
    used, free = span.mean(*MEMORY_USED, total=True), span.mean(*MEMORY_FREE, total=True)
    return None if used is None or free is None else ratio(used, used + free)


def power(span: Span) -> float | None:
    """Watts of all GPUs together."""
    return span.mean(*POWER, total=True)


def seen(span: Span) -> float | None:
    """GPUs that were seen in the window."""
    found = [line for line in span.named(*USE) if line.mean(span.start, span.end) is not None]
    return float(len(found)) if found else None


def each(span: Span) -> list[GpuUse]:
    """Every GPU that was seen in the window, by machine and index; none where there are fewer than two."""
    keys = {_key(line): line for line in span.named(*USE) if line.mean(span.start, span.end) is not None}
    if len(keys) < 2:
        return []
    many = len({host for host, _, _ in keys}) > 1
    return [_of(span, key, keys[key], named_by_host=many) for key in sorted(keys, key=_order)]


Key = tuple[str, str, str]
"""Machine, index, id: a GPU that is split has parts (``GPU_I_ID`` of DCGM) of one index."""


def _key(line: Line) -> Key:
    host = line.label("Hostname") or line.label("node") or line.label("instance") or ""
    return host, line.label("gpu") or "", (line.label("UUID") or line.label("uuid") or "") + _part(line)


def _part(line: Line) -> str:
    part = line.label("GPU_I_ID")
    return f"/{part}" if part else ""


def _order(key: Key) -> tuple[str, int, str, str]:
    host, index, uuid = key
    return host, int(index) if index.isdigit() else 0, index, uuid


def _of(span: Span, key: Key, line: Line, *, named_by_host: bool) -> GpuUse:
    host, index, uuid = key

    def mine(other: Line) -> bool:
        return _key(other) == key

    used, free = span.mean(*MEMORY_USED, keep=mine), span.mean(*MEMORY_FREE, keep=mine)
    memory = None if used is None or free is None else ratio(used, used + free)
    use = span.mean(*USE, keep=mine)
    name = f"{index or uuid}{_part(line)}"
    return GpuUse(
        gpu=f"{host} {name}" if named_by_host else name,
        model=line.label("modelName") or line.label("model"),
        utilization=_scalar(use, "fraction", 0.01),
        memory_usage=_scalar(memory, "fraction"),
        power=_scalar(span.mean(*POWER, keep=mine), "W"),
    )


def _scalar(value: float | None, unit: str, scale: float = 1.0) -> Scalar:
    return NOT_TOLD if value is None else Measured(value * scale, unit)
