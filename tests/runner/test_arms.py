"""From the versions of a configuration to two targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_d_benchmark.analyze.comparison.study import criteria_of, question_of
from llm_d_benchmark.config.layers import LoadedConfig, load_config
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.runner.arms import ArmPlan, arms_of, same_server

MISSION = Path(__file__).parents[2] / "examples/mission/regression_testing.yaml"


def load(tmp_path: Path, text: str, **overrides: object) -> LoadedConfig:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    return load_config([file], env={}, overrides=overrides or None)


def urls(*arms: ArmPlan) -> list[str]:
    return [a.config.config.spec.target.existing.url for a in arms]  # type: ignore[union-attr]


def test_the_missions_block_runs_with_two_urls() -> None:
    loaded = load_config([MISSION], env={})
    arms = arms_of(loaded, {"baseline": "http://old:8000", "test": "http://new:8000"})
    assert [a.version for a in arms] == ["v0.3.0", "v0.4.0"]
    assert urls(*arms) == ["http://old:8000", "http://new:8000"]
    assert all(a.config.config.spec.regression_testing is None for a in arms)
    assert arms[0].config.config.metadata.labels == {"arm": "baseline", "version": "v0.3.0"}
    assert arms[0].config.digest != arms[1].config.digest
    assert not same_server(*arms)
    asked = criteria_of(loaded.config.spec.regression_testing, probed=True)  # type: ignore[arg-type]
    assert (str(asked.performance), asked.functionality, str(asked.stability)) == ("<5%", "compatible", ">99.9% uptime")


def test_without_targets_the_error_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"version 'v0\.3\.0'") as error:
        arms_of(load_config([MISSION], env={}), {})
    assert error.value.advice is not None
    for word in ("--baseline-url", "targets", "{version}"):
        assert word in error.value.advice


def test_the_version_stands_where_the_target_says(tmp_path: Path) -> None:
    text = MISSION.read_text() + 'target: {process: {command: [serve, "image:{version}", "{port}"]}}\n'
    one, other = arms_of(load(tmp_path, text), {})
    commands = [a.config.config.spec.target.process.command for a in (one, other)]  # type: ignore[union-attr]
    assert commands == [["serve", "image:v0.3.0", "{port}"], ["serve", "image:v0.4.0", "{port}"]]


def test_a_target_for_each_version(tmp_path: Path) -> None:
    text = "regression_testing:\n  targets:\n    baseline: {local: {slots: 1}}\n    test: {local: {slots: 4}}\n"
    arms = arms_of(load(tmp_path, text), {})
    assert [a.config.config.spec.target.local.slots for a in arms] == [1, 4]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("targets: {v9: local}", "neither baseline_version 'baseline' nor test_version"),
        ("{baseline_version: a, test_version: a}", "both versions are 'a'"),
        ("{min_runs: 9, max_runs: 4}", "max_runs 4 is under min_runs 9"),
    ],
)
def test_what_cannot_be_is_said_at_once(tmp_path: Path, block: str, says: str) -> None:
    block = block if block.startswith("{") else f"{{{block}}}"
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, f"regression_testing: {block}\n")


def test_both_arms_replay_the_same_load_and_pairs_differ() -> None:
    arms = arms_of(load_config([MISSION], env={}), {"baseline": "http://a:1", "test": "http://b:1"})
    seeds = [
        [g.config.seed for g in a.run_config(block).config.spec.benchmark.load_generators]
        for block in range(2)
        for a in arms
    ]
    assert seeds == [[0], [0], [1], [1]]
    assert same_server(*arms_of(load_config([MISSION], env={}), {"baseline": "http://a:1", "test": "http://a:1"}))


@pytest.mark.parametrize(
    ("block", "probed", "expected"),
    [
        ("{}", True, ("<5%", "compatible", "None")),
        ("{}", False, ("<5%", "None", "None")),
        ("{test_suite: [stability_tests]}", True, ("None", "None", ">99.9% uptime")),
        ('{pass_criteria: {stability: ">99% success"}}', False, ("<5%", "None", ">99% success")),
        ("{test_suite: [functionality_tests]}", False, ("None", "compatible", "None")),
    ],
)
def test_what_is_judged(tmp_path: Path, block: str, probed: bool, expected: tuple[str, str, str]) -> None:
    config = load(tmp_path, f"regression_testing: {block}\n").config
    asked = criteria_of(config.spec.regression_testing, probed=probed)  # type: ignore[arg-type]
    assert (str(asked.performance), str(asked.functionality), str(asked.stability)) == expected


def test_the_metrics_that_decide(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "regression_testing: {}\n"
        "performance_evaluation: {metrics: {primary: [throughput, latency_p95, prefix_hit_rate]}}\n",
    ).config
    question, notes = question_of(config, criteria_of(config.spec.regression_testing, probed=False))  # type: ignore[arg-type]
    assert [r.path for r in question.deciding] == ["output_tokens_per_second", "e2e.p95"]
    assert notes == ["prefix_hit_rate is neither better nor worse; it does not decide"]
