"""Machines, containers and GPUs as a real Prometheus server knows them, to the resources of a window."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llm_d_benchmark.analyze.resources import resources
from llm_d_benchmark.analyze.timeseries import Lines
from llm_d_benchmark.collect.prometheus import PrometheusCollector, queries_of, server_of
from llm_d_benchmark.config.collectors import PrometheusConfig
from llm_d_benchmark.config.target import SecretSource
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.result import Measured
from tests.collect.prometheus_server import PASSWORD, USER, prometheus
from tests.collect.test_prometheus import collect
from tests.collect.test_scrape import Page

GIB = 2**30


def exporters(n: int) -> str:
    """What node exporter, cAdvisor, DCGM and vLLM say at their n-th scrape, all on one page."""
    return f"""# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{{cpu="0",mode="idle"}} {2 * n}
node_cpu_seconds_total{{cpu="0",mode="iowait"}} {n}
node_cpu_seconds_total{{cpu="0",mode="user"}} {n}
node_memory_MemTotal_bytes {64 * GIB}
node_memory_MemAvailable_bytes {16 * GIB}
# TYPE node_network_receive_bytes_total counter
node_network_receive_bytes_total{{device="eth0"}} {1000 * n}
node_network_transmit_bytes_total{{device="eth0"}} {1000 * n}
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{{pod="vllm-0",container="",cpu="total"}} {3 * n}
container_cpu_usage_seconds_total{{pod="vllm-0",container="POD",cpu="total"}} {n}
container_cpu_usage_seconds_total{{pod="vllm-0",container="vllm",cpu="total"}} {2 * n}
container_cpu_usage_seconds_total{{pod="other",container="db",cpu="total"}} {50 * n}
container_memory_working_set_bytes{{pod="vllm-0",container=""}} {9 * GIB}
container_memory_working_set_bytes{{pod="vllm-0",container="vllm"}} {8 * GIB}
container_memory_working_set_bytes{{pod="other",container="db"}} {32 * GIB}
# TYPE container_network_receive_bytes_total counter
container_network_receive_bytes_total{{pod="vllm-0",interface="eth0"}} {300 * n}
container_network_receive_bytes_total{{pod="vllm-0",interface="lo"}} {9000 * n}
container_network_receive_bytes_total{{pod="other",interface="eth0"}} {7000 * n}
container_network_transmit_bytes_total{{pod="vllm-0",interface="eth0"}} {200 * n}
DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="a",modelName="NVIDIA H100",Hostname="n1"}} 90
DCGM_FI_DEV_GPU_UTIL{{gpu="1",UUID="b",modelName="NVIDIA H100",Hostname="n1"}} 10
DCGM_FI_DEV_FB_USED{{gpu="0",UUID="a",modelName="NVIDIA H100",Hostname="n1"}} 60
DCGM_FI_DEV_FB_USED{{gpu="1",UUID="b",modelName="NVIDIA H100",Hostname="n1"}} 20
DCGM_FI_DEV_FB_FREE{{gpu="0",UUID="a",modelName="NVIDIA H100",Hostname="n1"}} 20
DCGM_FI_DEV_FB_FREE{{gpu="1",UUID="b",modelName="NVIDIA H100",Hostname="n1"}} 60
DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="a",modelName="NVIDIA H100",Hostname="n1"}} 600
vllm:num_requests_running{{pod="vllm-0"}} 4
"""


def test_machines_containers_and_each_gpu_come_through_a_guarded_prometheus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(exporters)
    monkeypatch.setenv("PROMETHEUS_PASSWORD", PASSWORD)
    access = PrometheusConfig(username=USER, password=SecretSource(env="PROMETHEUS_PASSWORD"))
    with prometheus(tmp_path, urlsplit(page.url).netloc, guarded=True) as url:
        samples, told, stopped = collect(PrometheusCollector(server_of(url, access), queries_of(access)), 2.0)
        nothing, refused, _ = collect(PrometheusCollector(Endpoint(url), {"up": "up"}), 0.2)
    page.server.shutdown()
    page.server.server_close()
    assert told == []
    assert not len(nothing)
    assert [f.code for f in refused] == ["collector_failed"]
    assert "refused our credentials (401)" in refused[0].message
    assert "spec.collectors.prometheus.bearer_token" in (refused[0].advice or "")
    end = int(stopped * 1e9)
    found = resources(Lines.of(samples), end - 2 * 10**9, end)
    values = {k: v.value for k, v in found.values.items() if isinstance(v, Measured)}
    scrapes = 2  # a second
    assert values["cpu_utilization"] == pytest.approx(0.25)
    assert values["memory_usage"] == pytest.approx(0.75)
    assert values["server_cpu_cores"] == pytest.approx(2 * scrapes, rel=0.1)  # neither the pod's sum nor another pod's
    assert values["server_memory"] == 8 * GIB
    assert values["network_io_rate"] == pytest.approx(500 * scrapes, rel=0.1)
    assert found.sources["cpu_utilization"] == f"prometheus {url} (node exporter)"
    assert found.sources["server_memory"] == f"prometheus {url} (cAdvisor)"
    assert found.sources["gpu_utilization"] == f"prometheus {url} (DCGM)"
    assert values["gpu_utilization"] == pytest.approx(0.5)
    assert [(g.gpu, g.utilization, g.memory_usage) for g in found.gpus] == [
        ("0", Measured(pytest.approx(0.9), "fraction"), Measured(0.75, "fraction")),
        ("1", Measured(pytest.approx(0.1), "fraction"), Measured(0.25, "fraction")),
    ]
    assert found.gpus[0].power == Measured(600.0, "W")
    assert not isinstance(found.gpus[1].power, Measured)
    assert found.gpus[0].model == "NVIDIA H100"
