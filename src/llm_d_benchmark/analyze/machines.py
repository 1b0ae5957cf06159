"""CPU, memory and network of the machines and containers around a run: of the server where Prometheus knows them, else
of this machine.

Names and labels are those of node exporter (node_*) and of the kubelet's cAdvisor (container_*).
"""

from __future__ import annotations

from collections.abc import Callable

from .span import Keep, Span, ratio
from .timeseries import Line

Read = Callable[[Span], float | None]
HOST, SERVER = "host", "server process"
IDLE = frozenset({"idle", "iowait"})
VIRTUAL = ("lo", "veth", "cali", "cni", "cilium", "lxc", "flannel", "docker", "br-", "virbr", "tunl", "kube-")
"""Devices whose bytes pass another device, too."""
PAUSE = frozenset({"", "POD"})
"""Names under which cAdvisor reports what is not a container of its own: sums of a pod, and its pause container."""


def first(*reads: Read) -> Read:
    """What the first of several sources says that says anything."""

    def read(span: Span) -> float | None:
        for one in reads:
            span.sources.clear()
            found = one(span)
            if found is not None:
                return found
        return None

    return read


def _from(source: str) -> Keep:
    return lambda line: line.series.source == source


def _has(label: str, test: Callable[[str], bool]) -> Keep:
    return lambda line: test(line.label(label) or "")


# This machine, and the server's process on it.


def _host_cpu(span: Span) -> float | None:
    """Share of this machine's cores that was busy."""
    return ratio(*(span.grew(f"cpu_{m}seconds_total", keep=_from(HOST)) for m in ("busy_", "")))


def _host_memory(span: Span) -> float | None:
    return ratio(span.mean("memory_used_bytes"), span.mean("memory_total_bytes"))


def _host_network(span: Span) -> float | None:
    """Bytes/s in and out over every device, loopback apart."""
    outside = _has("device", lambda device: device != "lo")
    return _both(*(span.per_second(f"network_{way}_bytes_total", keep=outside) for way in ("received", "sent")))


def _process_cores(span: Span) -> float | None:
    """Cores that the server's processes used on average."""
    return span.per_second("cpu_seconds_total", keep=_from(SERVER))


def _process_memory(span: Span) -> float | None:
    return span.mean("memory_resident_bytes", total=True)


# Machines by node exporter: all that Prometheus gave.


def _node_cpu(span: Span) -> float | None:
    busy = span.grew("node_cpu_seconds_total", keep=_has("mode", lambda mode: mode not in IDLE))
    return ratio(busy, span.grew("node_cpu_seconds_total"))


def _node_memory(span: Span) -> float | None:
    free, total = (span.mean(f"node_memory_Mem{what}_bytes", total=True) for what in ("Available", "Total"))
    left = ratio(free, total)
    return None if left is None else 1 - left


def _node_network(span: Span) -> float | None:
    outside = _has("device", lambda device: not device.startswith(VIRTUAL))
    return _both(*(span.per_second(f"node_network_{way}_bytes_total", keep=outside) for way in ("receive", "transmit")))


# Containers by cAdvisor: those of the pods whose engine's own metrics were seen, else all that Prometheus gave.


def _pods(span: Span) -> frozenset[str]:
    """Pods that an inference engine's own metrics came from (vllm:..., sglang:...)."""
    return frozenset(pod for line in span.lines if ":" in line.series.metric and (pod := line.label("pod")))


def _container(span: Span) -> Keep:
    pods = _pods(span)

    def keep(line: Line) -> bool:
        if line.label("pod"):
            return (not pods or line.label("pod") in pods) and (line.label("container") or "") not in PAUSE
        return not pods and bool(line.label("name"))  # a cAdvisor beside Docker has no pods

    return keep


def _container_cores(span: Span) -> float | None:
    return span.per_second("container_cpu_usage_seconds_total", keep=_container(span))


def _container_memory(span: Span) -> float | None:
    return span.mean("container_memory_working_set_bytes", total=True, keep=_container(span))


def _pod_network(span: Span) -> float | None:
    """A pod's containers share its network, which is reported once, under no container's name."""
    pods = _pods(span)

    def keep(line: Line) -> bool:
        ours = line.label("pod") in pods if pods else bool(line.label("pod") or line.label("name"))
        return ours and line.label("interface") != "lo"

    return _both(
        *(span.per_second(f"container_network_{way}_bytes_total", keep=keep) for way in ("receive", "transmit"))
    )


def _both(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


cpu_utilization = first(_node_cpu, _host_cpu)
memory_usage = first(_node_memory, _host_memory)
network_io_rate = first(_pod_network, _node_network, _host_network)
server_cpu_cores = first(_process_cores, _container_cores)
server_memory = first(_process_memory, _container_memory)
