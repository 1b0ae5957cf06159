"""What a run cannot carry out is said, as an error only where the run is impossible."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_d_benchmark.config.availability import unavailable
from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.config.resolve import resolve_target
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.events import Finding, Severity
from tests.config.loading import load_text

MISSION = Path(__file__).parents[2] / "examples" / "mission"
HERE = {"existing", "process", "local", "simulator"}


def findings(*names: str, **options: object) -> list[Finding]:
    loaded = load_config([MISSION / f"{n}.yaml" for n in names], env={}, **options)  # type: ignore[arg-type]
    return unavailable(loaded.config, HERE, {"native"})


def test_the_basic_configuration_needs_a_cluster_and_two_generators() -> None:
    found = findings("benchmark-config")
    errors = [f for f in found if f.severity is Severity.ERROR]
    assert [f.code for f in errors] == ["target_unavailable", "generator_unavailable", "generator_unavailable"]
    assert "Kubernetes" in errors[0].message
    assert "--url" in str(errors[0].advice)
    assert "'fmperf'" in errors[1].message
    assert "--load-generator native" in str(errors[1].advice)
    assert "prometheus_unnamed" not in [f.code for f in found]


@pytest.mark.parametrize("generator", ["native", "virtual"])
@pytest.mark.parametrize("kind", ["dataset", "trace"])
def test_a_file_of_prompts_that_is_not_there_is_said_before_the_run(kind: str, generator: str, tmp_path: Path) -> None:
    def said(path: Path) -> list[str]:
        load = {"type": generator, "config": {"workload": {"type": kind, "path": str(path)}, "concurrency": 1}}
        overrides = {"spec": {"target": "local", "benchmark": {"load_generators": [load]}}}
        found = unavailable(load_config([], env={}, overrides=overrides).config, HERE, {"native", "virtual"})
        return [f.message for f in found if f.severity is Severity.ERROR]

    file = tmp_path / "prompts.jsonl"
    assert said(file) == [f"spec.benchmark.load_generators.0.config.workload.path: {file} does not exist"]
    file.touch()
    assert said(file) == []


def test_monitoring_without_an_address_is_said() -> None:
    monitoring: dict[str, object] = {"enabled": True}
    loaded = load_config([], env={}, overrides={"spec": {"cluster": {"monitoring": monitoring}}})
    assert "prometheus_unnamed" in [f.code for f in unavailable(loaded.config, HERE, {"native"})]
    named = {"cluster": {"monitoring": monitoring}, "collectors": {"prometheus": {"url": "http://p:9090"}}}
    loaded = load_config([], env={}, overrides={"spec": named})
    assert "prometheus_unnamed" not in [f.code for f in unavailable(loaded.config, HERE, {"native"})]


def test_it_runs_against_a_url_with_the_native_generator() -> None:
    overrides = {"spec": {"target": {"type": "existing", "existing": {"url": "http://h"}}}}
    found = findings("benchmark-config", overrides=overrides, load_generator="native")
    assert [f for f in found if f.severity is Severity.ERROR] == []
    assert "models_not_deployed" in [f.code for f in found]


@pytest.mark.parametrize(
    ("simulator", "severity"), [({}, Severity.WARNING), ({"profile": "llama-3.1-8b/h100"}, Severity.INFO)]
)
def test_models_of_the_configuration_are_not_what_is_simulated(simulator: dict[str, str], severity: Severity) -> None:
    overrides = {"spec": {"target": {"type": "simulator", "simulator": simulator}}}
    (said,) = [f for f in findings("benchmark-config", overrides=overrides) if f.code == "models_not_simulated"]
    assert said.message.startswith("spec.models is not simulated (DeepSeek-V3.1 x 2), but")
    assert said.message.endswith("llama-3.1-8b/h100 x 1, on 1 GPU(s) each")
    assert said.severity is severity


def test_blocks_that_are_only_kept_are_named() -> None:
    blocks = ["workflow", "performance_evaluation", "capacity_planning", "configuration_optimization",
              "regression_testing", "kpi_metrics", "cost_metrics", "load_generators"]  # fmt: skip
    kept = [f.message for f in findings(*blocks) if f.code == "kept"]
    for block in blocks:
        assert any(f"spec.{block} " in m for m in kept), block


def test_what_a_run_does_in_another_way_than_the_data_pipeline_says_is_said(tmp_path: Path) -> None:
    told = [f.message for f in findings("data_pipeline") if f.code == "data_pipeline"]
    assert any("prometheus_metrics is the server's own /metrics page" in m for m in told)
    assert any("trend_analysis (llm-d-benchmark trend)" in m for m in told)
    text = "data_pipeline: {collection: {sources: [system_metrics]}, processing: {stages: [aggregation]}}"
    few = unavailable(load_text(tmp_path, f"{{target: local, {text}}}").config, HERE, {"native"})
    assert [f.code for f in few] == ["data_pipeline", "data_pipeline"]
    assert "load_generator_data is taken although it is not named" in few[0].message
    assert "data_validation, normalization, outlier_detection are done" in few[1].message


def test_objectives_and_alerts_without_a_source_are_warned_about() -> None:
    codes = {f.code: f for f in findings("advanced_config", "monitoring")}
    assert "'cost_per_token'" in codes["slo_not_measured"].message
    assert codes["slo_not_measured"].severity is Severity.WARNING
    assert "high_latency, high_error_rate, resource_exhaustion" in codes["alerts_unavailable"].message


def test_mistyped_kinds_get_the_nearest(tmp_path: Path) -> None:
    text = "spec: {target: {type: locl}, benchmark: {load_generators: [{type: nativ}]}}"
    found = unavailable(load_text(tmp_path, text).config, HERE, {"native"})
    assert "did you mean 'local'?" in found[0].message
    assert "did you mean 'native'?" in found[1].message


def test_nothing_is_found_where_everything_is_there(tmp_path: Path) -> None:
    assert unavailable(load_text(tmp_path, "target: local").config, HERE, {"native"}) == []


def test_the_target_is_what_the_configuration_says(tmp_path: Path) -> None:
    assert resolve_target(load_text(tmp_path, "target: local").config).type == "local"
    cluster = resolve_target(load_config([MISSION / "benchmark-config.yaml"], env={}).config)
    assert cluster.type == "kubernetes"
    assert cluster.kubernetes is not None
    assert cluster.kubernetes["models"][0]["resources"]["requests"] == {"nvidia.com/gpu": 8, "memory": "256Gi"}
    with pytest.raises(ConfigError, match="which server") as caught:
        resolve_target(load_config([], env={}).config)
    assert "--url" in str(caught.value.advice)


def test_a_third_partys_target_keeps_its_block(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "target: {type: mine, mine: {a: 1}}")
    target = resolve_target(loaded.config)
    assert target.mine == {"a": 1}  # type: ignore[attr-defined]
    assert loaded.config.to_dict()["spec"]["target"] == {"type": "mine", "mine": {"a": 1}}
