"""llm-d Benchmark Reports as the upstream package publishes them, and as we write them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import yaml

from llm_d_benchmark.domain.errors import GeneratorError
from llm_d_benchmark.domain.result import Measured
from llm_d_benchmark.loadgen.external.api import NativeStage
from llm_d_benchmark.loadgen.llmd_report import parse


def example(tmp_path: Path, version: str) -> Path:
    text = resources.files("llmd_benchmark_report").joinpath(f"br_v0_{version}_example.yaml").read_text()
    path = tmp_path / f"v0_{version}.yaml"
    path.write_text(text)
    return path


def value(stage: NativeStage, name: str) -> float:
    found = stage.aggregates[name]
    assert isinstance(found, Measured)
    return found.value


def test_the_published_v0_2_example(tmp_path: Path) -> None:
    (result,) = parse(example(tmp_path, "2"))
    (stage,) = result.stages
    assert (result.tool, result.version, result.model) == ("inference-perf", "0.3.0", "Qwen/Qwen3-0.6B")
    assert stage.load == {"rate": 10.0, "concurrency": None}
    assert stage.counts == {"sent": 500, "failed": 0}
    assert stage.window is not None
    assert (stage.window[1] - stage.window[0]) / 1e9 == pytest.approx(49.972, abs=1e-3)
    assert not any(name.startswith("itl.") for name in stage.aggregates), "split on re-tokenised text"
    assert {f.code for f in result.findings} == {"inconsistent_data", "itl_left_out"}


def test_the_published_v0_1_example_whose_start_is_after_its_end(tmp_path: Path) -> None:
    (result,) = parse(example(tmp_path, "1"))
    (stage,) = result.stages
    assert (result.tool, result.model) == ("inference-perf", "deepseek-ai/DeepSeek-R1-0528")
    assert stage.counts == {"sent": 32, "failed": 0, "cancelled": 1}
    assert value(stage, "ttft.mean") == pytest.approx(0.800974e-3, rel=1e-4)
    assert value(stage, "tpot.p90") == pytest.approx(0.152293e-3, rel=1e-4)
    assert value(stage, "input_length") == pytest.approx(628.606, rel=1e-4)
    assert stage.window is not None
    assert stage.window[1] > stage.window[0]
    assert any("apart, but says that it took 16.5" in f.message for f in result.findings)


@pytest.mark.parametrize(("tool", "name"), [("guidellm", "tpot"), ("aiperf", "tpot"), ("vllm-benchmark", "itl")])
def test_inter_token_latency_means_what_the_tool_means(tmp_path: Path, tool: str, name: str) -> None:
    report = yaml.safe_load(example(tmp_path, "2").read_text())
    report["scenario"]["load"]["standardized"]["tool"] = tool
    latency = report["results"]["request_performance"]["aggregate"]["latency"]
    del latency["time_per_output_token"]
    latency["inter_token_latency"] = {"units": "ms/token", "mean": 5.4, "p99p9": 9.0}
    path = tmp_path / "r.json"
    path.write_text(yaml.safe_dump(report))
    path = path.rename(tmp_path / "r.yaml")
    (result,) = parse(path)
    assert value(result.stages[0], f"{name}.mean") == pytest.approx(0.0054)
    assert value(result.stages[0], f"{name}.p99.9") == pytest.approx(0.009)
    other = {"tpot": "itl", "itl": "tpot"}[name]
    assert f"{other}.mean" not in result.stages[0].aggregates


def test_a_damaged_file_beside_reports_is_told(tmp_path: Path) -> None:
    example(tmp_path, "2")
    (tmp_path / "cut.yaml").write_text("run: {uid: 'x")
    (tmp_path / "cut.json").write_text('{"version": "0.2", ')
    (result,) = parse(tmp_path)
    left = [f.message for f in result.findings if f.code == "left_out"]
    assert left == [f"cut.{kind} is not whole, or no {kind} file: left out" for kind in ("json", "yaml")]
    with pytest.raises(GeneratorError, match=r"cut\.yaml is not whole"):
        parse(tmp_path / "cut.yaml")


def test_what_is_no_report_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 0.1\n")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(GeneratorError, match=r"llm-d Benchmark Report.*0\.1 or 0\.2"):
        parse(tmp_path)
