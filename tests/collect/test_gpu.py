"""GPUs through NVML. No GPU is needed: the module is a fake, whose names and units are those of nvidia-ml-py."""

from __future__ import annotations

import sys

import pytest

from llm_d_benchmark.analyze.resources import resources
from llm_d_benchmark.analyze.timeseries import Lines
from llm_d_benchmark.collect.gpu import GpuCollector
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.result import Measured
from tests.collect.fake_pynvml import Fake
from tests.collect.test_scrape import collect

HERE, THERE = Endpoint("http://127.0.0.1:1"), Endpoint("http://gpu.example:1")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    return fake


def test_the_fake_has_the_names_of_the_real_module() -> None:
    real = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed ([gpu] extra)")
    assert [n for n in dir(Fake) if n.startswith(("nvml", "NVML")) and not hasattr(real, n)] == []


def test_gpus_become_the_resources_of_a_window(nvml: Fake) -> None:
    samples, told, _ = collect(HERE, GpuCollector("auto"), seconds=0.5)
    assert told == []
    assert nvml.open == 0  # shut down again
    found = resources(Lines.of(samples), int(samples.times.min()), int(samples.times.max())).values
    values = {k: v.value for k, v in found.items() if isinstance(v, Measured)}
    assert values["gpus"] == 2
    assert values["gpu_utilization"] == pytest.approx(0.6)
    assert values["gpu_memory_usage"] == pytest.approx(0.75)
    assert values["gpu_power"] == pytest.approx(250)
    labels = {dict(s.labels)["uuid"] for s in samples.series}
    assert labels == {"GPU-0", "GPU-1"}
    celsius = [i for i, s in enumerate(samples.series) if s.metric == "gpu_temperature_celsius"]
    assert sorted(float(samples.of(i)[1][0]) for i in celsius) == [40, 41]


def test_this_machine_s_gpus_say_nothing_of_a_server_elsewhere(nvml: Fake) -> None:
    assert not len(collect(THERE, GpuCollector("auto"), seconds=0.1)[0])
    assert len(collect(THERE, GpuCollector("on"), seconds=0.1)[0])


@pytest.mark.parametrize(
    ("module", "reason"),
    [(None, "not installed"), (Fake(broken=True), "Driver Not Loaded"), (Fake(gpus=0), "sees no GPU")],
)
def test_no_gpu_is_a_finding_only_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, module: Fake | None, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)  # type: ignore[arg-type]
    samples, told, _ = collect(HERE, GpuCollector("auto"), seconds=0.1)
    assert (len(samples), told) == (0, [])
    samples, told, _ = collect(HERE, GpuCollector("on"), seconds=0.1)
    assert not len(samples)
    assert [f.code for f in told] == ["gpu_not_collected"]
    assert reason in told[0].message
