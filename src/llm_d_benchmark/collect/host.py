"""This machine and the server's process, where it runs here: CPU, memory, disk, network (psutil)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import psutil

from ..domain.events import Finding
from ..domain.samples import Samples, Series, SeriesKind
from .api import LAST_S, CollectJob, ticks

HOST = "host"
SERVER = "server process"


class HostCollector:
    """Series of source ``host`` (the machine of the client) and ``server process`` (with its children).

    Totals are counters in seconds and bytes, levels are gauges in bytes.
    """

    name = "host"
    last_s = LAST_S

    async def collect(self, job: CollectJob) -> AsyncIterator[Samples | Finding]:
        server = _process(job.endpoint.pid)
        async for _ in ticks(job):
            now = time.monotonic_ns() + job.clock_offset
            yield Samples.from_rows((now, series, value) for series, value in (*_host(), *_of(server)))


def _process(pid: int | None) -> psutil.Process | None:
    with suppress(psutil.Error):
        return None if pid is None else psutil.Process(pid)
    return None


def _host() -> Iterator[tuple[Series, float]]:
    for core, busy in enumerate(psutil.cpu_times(percpu=True)):
        idle = busy.idle + getattr(busy, "iowait", 0.0)
        labels = (("core", str(core)),)
        yield Series(HOST, "cpu_busy_seconds_total", labels, SeriesKind.COUNTER), sum(busy) - idle - _guest(busy)
        yield Series(HOST, "cpu_seconds_total", labels, SeriesKind.COUNTER), sum(busy) - _guest(busy)
    memory = psutil.virtual_memory()
    yield Series(HOST, "memory_used_bytes"), float(memory.total - memory.available)
    yield Series(HOST, "memory_total_bytes"), float(memory.total)
    if (disk := psutil.disk_io_counters()) is not None:
        yield _total("disk_read_bytes_total"), float(disk.read_bytes)
        yield _total("disk_written_bytes_total"), float(disk.write_bytes)
    for name, net in psutil.net_io_counters(pernic=True).items():
        yield _total("network_received_bytes_total", name), float(net.bytes_recv)
        yield _total("network_sent_bytes_total", name), float(net.bytes_sent)


def _guest(busy: object) -> float:
    """Linux counts a guest's time twice, as guest and as user."""
    return float(getattr(busy, "guest", 0.0) + getattr(busy, "guest_nice", 0.0))


def _total(metric: str, device: str | None = None) -> Series:
    return Series(HOST, metric, () if device is None else (("device", device),), SeriesKind.COUNTER)


def _of(server: psutil.Process | None) -> Iterator[tuple[Series, float]]:
    """The server's processes; one that ends meanwhile has no sample."""
    if server is None:
        return
    with suppress(psutil.Error):
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.Error), process.oneshot():
                labels = (("pid", str(process.pid)), ("program", process.name()))
                used = process.cpu_times()
                yield Series(SERVER, "cpu_seconds_total", labels, SeriesKind.COUNTER), used.user + used.system
                yield Series(SERVER, "memory_resident_bytes", labels), float(process.memory_info().rss)
