"""llm-d-benchmark regress: live servers, simulated ones in virtual time, finished runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from llm_d_benchmark.domain.comparison import RegressionResult
from llm_d_benchmark.store.comparison_json import published_schema
from tests.e2e.command import LENIENT, bench, only_run, sets, start
from tests.support.openai_server import OpenAIServer

LOAD = [*sets(concurrency=4, num_requests=40, input_length=16, output_length=8), *LENIENT]


def simulated(tmp_path: Path, test: str, **block: object) -> Path:
    file = tmp_path / "regression.yaml"
    block = {"targets": {"v1": "simulator", "v2": json.loads(test)}, "min_runs": 3, "max_runs": 4, **block}
    spec = {
        "benchmark": {
            "duration": "20s",
            "load_generators": [
                {"type": "virtual", "config": {"concurrency": 8, "input_length": 64, "output_length": 32}}
            ],
        },
        "regression_testing": {"baseline_version": "v1", "test_version": "v2", **block},
    }
    file.write_text(json.dumps({"kind": "BenchmarkConfig", "metadata": {"name": "sim"}, "spec": spec}))
    return file


def result_in(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "regression.json").read_text())
    jsonschema.validate(result, json.loads(published_schema(RegressionResult)))
    return result


def test_a_slower_simulated_version_fails(tmp_path: Path) -> None:
    config = simulated(tmp_path, '{"simulator": {"max_num_seqs": 4}}', test_suite=["performance_tests"])
    done = bench(
        "regress", "-c", str(config), "-o", "out", "--junit", "ci/junit.xml", "--markdown", "pr.md", cwd=tmp_path
    )
    assert done.returncode == 4, done.stderr + done.stdout
    folder = only_run(tmp_path / "out")
    result = result_in(folder)
    assert result["verdict"] == "fail"
    assert result["simulated"] is True
    assert [(r["arm"], r["block"], r["seeds"]) for r in result["runs"]] == [
        ("baseline", 0, [0]), ("test", 0, [0]), ("test", 1, [1]), ("baseline", 1, [1]), ("baseline", 2, [2]),
        ("test", 2, [2]),
    ]  # fmt: skip
    assert all((folder / r["path"] / "result.json").is_file() for r in result["runs"])
    suite = ElementTree.parse(tmp_path / "ci/junit.xml").getroot()
    assert int(suite.attrib["failures"]) >= 2
    assert "❌ FAIL: v2 against v1 (simulated)" in (tmp_path / "pr.md").read_text()
    page = (folder / "report.html").read_text()
    assert "FAIL" in page
    assert 'id="slowdowns"' in page
    # the same finished runs give the same verdict, without any load
    sides = {s: [str(folder / r["path"]) for r in result["runs"] if r["arm"] == s] for s in ("baseline", "test")}
    again = bench("regress", "--json", "--baseline", *sides["baseline"], "--test", *sides["test"], cwd=tmp_path)
    assert again.returncode == 4, again.stderr
    assert json.loads(again.stdout)["verdict"] == "fail"
    back = bench("regress", "--baseline", *sides["baseline"], "--test", *sides["baseline"], cwd=tmp_path)
    assert back.returncode == 0, back.stderr + back.stdout
    assert "PASS" in back.stdout


def test_equal_live_servers_pass_with_every_criterion(tmp_path: Path) -> None:
    # three runs a side are enough on a quiet machine; on a busy one it takes what it needs to tell
    criteria = [
        "--set", "spec.regression_testing.pass_criteria.stability=>97% uptime",
        "--set", "spec.regression_testing.min_runs=3",
        "--set", "spec.regression_testing.max_runs=12",
        "--limit", "<60%",
    ]  # fmt: skip
    with OpenAIServer(ttft=0.02, itl=0.004) as old, OpenAIServer(ttft=0.02, itl=0.004) as new:
        done = bench(
            "regress", "--baseline-url", old.url, "--test-url", new.url, "-o", "out", *criteria, *LOAD, cwd=tmp_path
        )
        bodies = [[r.body for r in s.inference if isinstance(r.body, dict)] for s in (old, new)]
    assert done.returncode == 0, done.stderr + done.stdout
    result = result_in(only_run(tmp_path / "out"))
    assert {c["name"]: c["verdict"] for c in result["criteria"]} == {
        "performance_regression": "pass",
        "functionality_changes": "pass",
        "stability": "pass",
    }, result["criteria"]
    runs = sum(r["arm"] == "test" for r in result["runs"])
    assert runs >= 3
    assert result["stability"]["test"]["finished"] == 40 * runs
    assert len(result["behaviours"]) > 20
    # both servers were asked the same
    prompts = [
        sorted(json.dumps(b["messages"]) for b in side if b.get("messages") and b.get("stream")) for side in bodies
    ]
    assert len(prompts[0]) >= 40 * runs
    assert prompts[0] == prompts[1]


def test_a_lost_behaviour_and_failing_requests_fail(tmp_path: Path) -> None:
    block = "{min_runs: 2, max_runs: 2, test_suite: [functionality_tests, stability_tests]}"
    with OpenAIServer(ttft=0.002, itl=0.001) as old, OpenAIServer(ttft=0.002, itl=0.001) as new:
        new.behaviour = lambda n: "http_500" if n > 30 and n % 4 == 0 else "no_usage"
        done = bench(
            "regress", "--baseline-url", old.url, "--test-url", new.url, "-o", "out",
            "--set", f"spec.regression_testing={block}", *LOAD, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 4, done.stderr + done.stdout
    result = result_in(only_run(tmp_path / "out"))
    assert {c["name"]: c["verdict"] for c in result["criteria"]} == {
        "functionality_changes": "fail",
        "stability": "fail",
    }
    assert [b["name"] for b in result["behaviours"] if b["change"] == "lost"] == ["usage when streaming"]
    assert result["stability"]["baseline"]["success"]["value"] == 1.0


def test_a_version_that_cannot_be_measured_ends_the_test_and_keeps_the_rest(tmp_path: Path) -> None:
    with OpenAIServer(ttft=0.002, itl=0.001) as old, OpenAIServer(ttft=0.002, itl=0.001) as new:
        new.behaviour = lambda n: "http_500"
        done = bench(
            "regress", "--baseline-url", old.url, "--test-url", new.url, "-o", "out",
            "--set", "spec.regression_testing.test_suite=[performance_tests]",
            "--set", "spec.benchmark.give_up=1s", *LOAD, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode in (5, 6), done.stderr + done.stdout
    result = result_in(only_run(tmp_path / "out"))
    assert result["verdict"] == "inconclusive"
    runs = [(r["arm"], r["used"]) for r in result["runs"]]
    assert ("test", True) not in runs
    assert [a for a, _ in runs].count("test") == 2
    assert "ended early" in done.stdout


class Templated(OpenAIServer):
    """Its chat template adds tokens that a client cannot foresee."""

    def usage_of(self, prompt: int, output: int) -> dict[str, Any]:
        return super().usage_of(prompt + 9 * (output > 1), output)


def test_lengths_that_no_run_will_have_end_the_test_at_once_and_are_told_everywhere(tmp_path: Path) -> None:
    with Templated(ttft=0.002, itl=0.001) as old, Templated(ttft=0.002, itl=0.001) as new:
        done = bench(
            "regress", "--baseline-url", old.url, "--test-url", new.url, "-o", "out", "--junit", "junit.xml",
            "--set", "spec.regression_testing.test_suite=[performance_tests]", *LOAD, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 7, done.stderr + done.stdout
    folder = only_run(tmp_path / "out")
    result = result_in(folder)
    (run,) = result["runs"]
    assert not run["used"]
    why, remedy = "input was 25 instead of 16 tokens", "use endpoint completions"
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    (error,) = [c.find("error") for c in suite.iter("testcase") if c.find("error") is not None]
    assert error is not None
    (criterion,) = result["criteria"]
    told = [done.stdout, result["failure"], criterion["message"], error.attrib["message"]]
    told += [(folder / name).read_text() for name in ("report.md", "report.html", "job.json")]
    for text in told:
        assert why in text
        assert remedy in text
    assert suite.attrib["errors"] == "1"


def test_pairs_that_cannot_be_used_end_the_test_after_the_least_number(tmp_path: Path) -> None:
    """A busy client may be idle in the next pair, so that one run is not enough to give up."""
    with OpenAIServer(ttft=0.002, itl=0.001) as old, OpenAIServer(ttft=0.002, itl=0.001) as new:
        done = bench(
            "regress", "--baseline-url", old.url, "--test-url", new.url, "-o", "out",
            "--set", "spec.regression_testing={min_runs: 2, max_runs: 9, test_suite: [performance_tests]}", *LOAD,
            "--set", "spec.benchmark.validity={schedule_delay: 9s, loop_lag: 1us, relative: 0}", cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 7, done.stderr + done.stdout
    result = result_in(only_run(tmp_path / "out"))
    assert len(result["runs"]) == 4
    assert "none of 2 pairs of runs can be used" in result["failure"]
    assert "the client was the bottleneck" in done.stdout


def test_a_dry_run_says_what_would_be_compared_and_touches_nothing(tmp_path: Path) -> None:
    config = simulated(tmp_path, '{"simulator": {"max_num_seqs": 4}}', metrics=["ttft.p95"])
    done = bench("regress", "-c", str(config), "-o", "out", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out").exists()
    for text in ("baseline: v1", "test: v2", "3 to 4", "2 min 0 s to 2 min 40 s", "performance regression: <5%",
                 "metrics that decide: ttft.p95", "functionality changes: compatible"):  # fmt: skip
        assert text in done.stdout, text
    plan = json.loads(bench("regress", "-c", str(config), "--dry-run", "--json", cwd=tmp_path).stdout)
    assert plan["pairs"] == {"least": 3, "most": 4}
    assert plan["arms"]["test"]["version"] == "v2"


def test_an_interrupted_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config = simulated(tmp_path, '{"simulator": {}}', test_suite=["performance_tests"], min_runs=4)
    process = start("regress", "-c", str(config), "-o", "out", cwd=tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("pair 2: baseline"):
            process.terminate()
            break
    process.communicate(timeout=60)
    assert process.returncode == 130
    folder = only_run(tmp_path / "out")
    before = json.loads((folder / "job.json").read_text())
    assert before["status"] == "interrupted"
    done = bench("regress", "-c", str(config), "--resume", str(folder), cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    after = json.loads((folder / "job.json").read_text())
    assert after["status"] == "done"
    assert after["runs"][: len(before["runs"])] == before["runs"]
    pairs = {(r["block"], r["arm"]) for r in after["runs"] if r["status"] == "ok"}
    assert {(b, a) for b in range(4) for a in ("baseline", "test")} <= pairs
    # killed after the load of its last run, before its analysis was noted
    *kept, last = after["runs"]
    entry = {k: last[k] for k in ("arm", "block", "seeds")}
    (folder / "job.json").write_text(json.dumps({**after, "runs": kept, "current": entry}))
    (folder / "runs" / last["run"] / "result.json").unlink()
    done = bench("regress", "-c", str(config), "--resume", str(folder), cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads((folder / "job.json").read_text())["runs"] == after["runs"]
    other = simulated(tmp_path, '{"simulator": {"max_num_seqs": 2}}')
    refused = bench("regress", "-c", str(other), "--resume", str(folder), cwd=tmp_path)
    assert refused.returncode == 2
    assert "another configuration" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "spec.regression_testing={baseline_version: v1, test_version: v2}"], "version 'v1'"),
        (["--baseline", "nowhere", "--test", "nowhere"], "does not exist"),
        (["--fail-on", "slo"], "allowed: regression, inconclusive, none"),
    ],
)
def test_mistakes_are_told(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = bench("regress", *arguments, cwd=tmp_path)
    assert done.returncode in (2, 6)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.local_model
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the [local] extra is not installed")
def test_a_setting_that_matters_is_seen_on_a_real_model(tmp_path: Path) -> None:
    # as many runs as the machine's noise asks for: where the model shares its cores, three are too few
    load = sets(concurrency=4, num_requests=8, input_length=32, output_length=16, parameters={"ignore_eos": True})
    block = {
        "baseline_version": "four",
        "test_version": "one",
        "targets": {"four": {"local": {"slots": 4}}, "one": {"local": {"slots": 1}}},
        "test_suite": ["performance_tests"],
        "metrics": ["ttft.mean"],
        "min_runs": 3,
        "max_runs": 10,
    }
    done = bench(
        "regress", "-o", "out", "--set", f"spec.regression_testing={json.dumps(block)}", *load, *LENIENT,
        cwd=tmp_path, timeout=500,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr + done.stdout
    result = result_in(only_run(tmp_path / "out"))
    (metric,) = [m for m in result["metrics"] if m["decides"]]
    assert metric["verdict"] == "fail"
    assert metric["effect"]["slowdown"] > 0.3
