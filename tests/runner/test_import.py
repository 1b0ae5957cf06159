"""Results of other tools as run folders: with their requests, with aggregates only, inconsistent, or not there."""

from __future__ import annotations

import bz2
import copy
import gzip
import json
import lzma
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_d_benchmark.domain.errors import ConfigError, GeneratorError
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.result import Absent, Distribution, Estimate, Measured, Reported
from llm_d_benchmark.loadgen.external.api import Adapter, Invocation, NativeResult, NativeStage, Requirement, ToolStage
from llm_d_benchmark.runner import ingest
from llm_d_benchmark.runner.finish import analyze_folder
from llm_d_benchmark.runner.ingest import import_results
from llm_d_benchmark.store.folder import RunFolder

from ..support.records import START, S, make_records


class FakeTool(Adapter):
    """Reads ``NAME.json``: {stages: [{n, ttft, ...} | {aggregates, counts}]}."""

    requirement = Requirement((), ">=3.11", "fake")

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def check(self, config: Any) -> Sequence[Any]:
        return ()

    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        return ()

    def parse(self, path: Path) -> NativeResult:
        file = path / f"{self.name}.json" if path.is_dir() else path
        if file.name != f"{self.name}.json" or not file.exists():
            raise GeneratorError(f"{path} has no {self.name}.json")
        stages = [_stage(i, s) for i, s in enumerate(json.loads(file.read_text())["stages"])]
        return NativeResult(self.name, "1.2", stages, (), "m", "http://server:8000")


def _stage(position: int, spec: dict[str, Any]) -> NativeStage:
    load = spec.pop("load", {"rate": 10.0, "arrival": "poisson"})
    figures = {k: Measured(v, "s" if "." in k else "") for k, v in spec.pop("aggregates", {}).items()}
    counts = spec.pop("counts", {})
    window = (START, START + 10 * S) if spec.pop("timed", True) else None
    if not spec:
        return NativeStage(f"level {position}", load, None, figures, window, counts)
    records = make_records(**spec, start=START + position * 100 * S)
    columns = dict(records.columns) | {"session": np.arange(len(records)), "request_id": np.arange(len(records))}
    return NativeStage(f"level {position}", load, Records(columns), figures, None, counts)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.generators, "available", lambda: ["fake", "other"])
    monkeypatch.setattr(ingest.generators, "load_generator", FakeTool)


def write(folder: Path, *stages: dict[str, Any], tool: str = "fake") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{tool}.json").write_text(json.dumps({"stages": stages}))
    return folder


AGGREGATES = {
    "ttft.mean": 0.05, "ttft.p50": 0.048, "ttft.p99": 0.09, "tpot.mean": 0.01, "e2e.mean": 0.2, "e2e.p50": 0.2,
    "output_tokens_per_second": 160.0, "requests_per_second": 10.0, "output_length": 16.0,
}  # fmt: skip


@pytest.mark.usefixtures("tools")
def test_requests_become_records_and_the_folder_is_an_ordinary_one(tmp_path: Path) -> None:
    source = write(tmp_path / "in", {"n": 100, "failed": 5}, {"n": 80, "load": {"concurrency": 4}})
    folder, result = import_results([("fake", source)], tmp_path / "out", name="mine")
    assert result.status == "ok"
    assert [s.load_generator for s in result.stages] == ["fake", "fake"]
    assert [s.label for s in result.stages] == ["10/s poisson", "c=4"]
    assert [s.metrics.requests.sent for s in result.stages] == [100, 80]
    assert result.requests.failed == 5
    ttft = result.stages[0].metrics.ttft
    assert isinstance(ttft, Distribution)
    assert isinstance(ttft.percentiles["p50"], Estimate)
    records = Records.concat(list(RunFolder.open(folder).parts()))
    assert len(np.unique(records.ints("request_id"))) == 180
    assert len(np.unique(records.ints("session"))) == 180
    manifest = RunFolder.open(folder).manifest
    assert manifest["imported"]["tools"] == [{"tool": "fake", "version": "1.2"}]
    assert list(manifest["imported"]["files"]) == ["in/fake.json"]
    before = (folder / "result.json").read_bytes()
    assert analyze_folder(folder) == result
    assert (folder / "result.json").read_bytes() == before
    assert (folder / "report.html").exists()


@pytest.mark.usefixtures("tools")
def test_aggregates_are_the_metrics_without_limits_and_the_rest_is_absent(tmp_path: Path) -> None:
    source = write(tmp_path / "in", {"aggregates": AGGREGATES, "counts": {"sent": 110, "failed": 10}})
    folder, result = import_results([("auto", source)], tmp_path / "out")
    m = result.stages[0].metrics
    assert isinstance(m.ttft, Distribution)
    assert (m.ttft.mean, m.ttft.limits, m.ttft.min) == (0.05, "reported", None)
    assert m.ttft.percentiles["p50"] == Reported(0.048)
    assert isinstance(m.ttft.percentiles["p95"], Absent)
    assert isinstance(m.itl, Absent)
    assert "kept no requests" in m.itl.absent
    assert m.error_rate == Measured(10 / 110, "fraction")
    assert (m.requests.succeeded, result.status) == (100, "ok")
    assert [i.name for i in result.validity.identities if i.holds is False] == []
    assert analyze_folder(folder) == result
    assert list(RunFolder.open(folder).parts()) == []
    text = (folder / "report.html").read_text()
    assert "reported" in text
    assert "how late the client was is not known" in text


@pytest.mark.usefixtures("tools")
def test_percentiles_that_only_the_tool_tells_are_kept_up_to_the_report(tmp_path: Path) -> None:
    """A summary has nothing else to make them of."""
    told = AGGREGATES | {"ttft.p25": 0.04, "ttft.p75": 0.06, "ttft.p33.3": 0.045}
    source = write(tmp_path / "in", {"aggregates": told, "counts": {"sent": 110, "failed": 10}})
    folder, result = import_results([("fake", source)], tmp_path / "out")
    ttft = result.stages[0].metrics.ttft
    assert isinstance(ttft, Distribution)
    assert list(ttft.percentiles) == ["p25", "p33.3", "p50", "p75", "p90", "p95", "p99", "p99.9"]
    assert analyze_folder(folder) == result
    report = yaml.safe_load((folder / "benchmark_report.yaml").read_text())
    kept = report["results"]["request_performance"]["aggregate"]["latency"]["time_to_first_token"]
    assert (kept["p25"], kept["p50"], kept["p75"]) == (0.04, 0.048, 0.06)
    _, again = import_results([("llm-d-report", folder / "benchmark_report.yaml")], tmp_path / "again")
    assert again.stages[0].metrics.ttft.percentiles["p25"] == Reported(0.04)  # type: ignore[union-attr]


@pytest.mark.usefixtures("tools")
def test_arrivals_that_are_not_told_are_not_called_constant(tmp_path: Path) -> None:
    loads: list[dict[str, Any]] = [{"rate": 10.0}, {"concurrency": 4}, {}, {"arrival": "trace"}]
    source = write(tmp_path / "in", *({"aggregates": AGGREGATES, "counts": {"sent": 9}, "load": one} for one in loads))
    folder, result = import_results([("fake", source)], tmp_path / "out")
    assert [s.label for s in result.stages] == ["10/s", "c=4", "load not told", "trace"]
    for name in ("result.json", "report.html", "config.yaml"):
        assert "constant" not in (folder / name).read_text(), name


@pytest.mark.usefixtures("tools")
def test_rates_of_a_result_that_does_not_tell_its_time(tmp_path: Path) -> None:
    figures = AGGREGATES | {"achieved_rate": 10.0}
    source = write(tmp_path / "in", {"aggregates": figures, "counts": {"sent": 100}, "timed": False})
    _, result = import_results([("fake", source)], tmp_path / "out")
    assert getattr(result.stages[0].metrics.achieved_rate, "value", None) == 10.0
    (little,) = [i for i in result.validity.identities if i.name == "Little's law"]
    assert little.holds is None


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        ({"e2e.mean": 0.5}, "e2e = ttft + (tokens - 1) x tpot"),
        ({"ttft.p99": 0.04}, "percentiles ascend"),
        ({"output_tokens_per_second": 1600.0}, "tokens/s = requests/s x tokens"),
    ],
)
def test_figures_that_cannot_be_are_flagged(tmp_path: Path, wrong: dict[str, float], broken: str) -> None:
    source = write(tmp_path / "in", {"aggregates": AGGREGATES | wrong, "counts": {"succeeded": 100}})
    _, result = import_results([("fake", source)], tmp_path / "out")
    assert [i.name for i in result.validity.identities if i.holds is False] == [broken]
    assert any(f.code == "identity" and broken in f.message for f in result.findings)


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("counts", [{"sent": 600, "failed": 9999}, {"sent": 600, "failed": 590, "cancelled": 20}])
def test_counts_that_cannot_be_are_flagged_and_make_no_others(tmp_path: Path, counts: dict[str, int]) -> None:
    source = write(tmp_path / "in", {"aggregates": AGGREGATES, "counts": counts})
    _, result = import_results([("fake", source)], tmp_path / "out")
    total = result.stages[0].metrics.requests_total
    assert (total.sent, total.succeeded, total.failed) == (600, 0, counts["failed"])
    assert any(f.code == "identity" and "sent = succeeded + failed" in f.message for f in result.findings)


@pytest.mark.usefixtures("tools")
def test_several_results_become_one_run(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", {"n": 60}), write(tmp_path / "b", {"n": 60}, tool="other")
    folder, result = import_results([("auto", a), ("auto", b)], tmp_path / "out")
    assert [(s.index, s.load_generator) for s in result.stages] == [(0, "fake"), (1, "other")]
    records = Records.concat(list(RunFolder.open(folder).parts()))
    assert len(np.unique(records.ints("request_id"))) == 120


@pytest.mark.usefixtures("tools")
def test_what_is_not_there_is_said_with_what_was_looked_for(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="does not exist"):
        import_results([("fake", tmp_path / "no")], tmp_path / "out")
    with pytest.raises(GeneratorError, match=r"has no fake\.json"):
        import_results([("fake", empty)], tmp_path / "out")
    with pytest.raises(GeneratorError, match=r"(?s)known tool.*has no fake\.json.*llm-d Benchmark Report"):
        import_results([("auto", empty)], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"not known; did you mean 'fake'\?") as told:
        import_results([("fake2", empty)], tmp_path / "out")
    assert "auto, fake, llm-d-report, other" in str(told.value.advice)
    both = write(write(tmp_path / "both", {"n": 9}), {"n": 9}, tool="other")
    with pytest.raises(ConfigError, match="results of fake and other"):
        import_results([("auto", both)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "damaged.*TypeError"),
        ("{", "damaged.*JSONDecodeError"),
        ('{"stages": [{"n": 5, "rate": 1e-6}]}', "no time of a run"),
    ],
)
def test_damaged_files_are_an_error_and_no_traceback(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "fake.json").write_text(text)
    with pytest.raises(GeneratorError, match=message):
        import_results([("fake", tmp_path)], tmp_path / "out")


@pytest.mark.usefixtures("tools")
def test_a_file_of_the_tool_without_any_figure_makes_no_run_folder(tmp_path: Path) -> None:
    """aiperf, for one, writes its server metrics into a file of the same form as its summary."""
    with pytest.raises(GeneratorError, match="says nothing of its requests"):
        import_results([("fake", write(tmp_path / "in", {}))], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tools")
def test_a_result_without_a_request_makes_no_run_folder(tmp_path: Path) -> None:
    source = write(tmp_path / "in", {"n": 0}, {"counts": {"sent": 0, "failed": 0}})
    with pytest.raises(GeneratorError, match="says nothing of its requests"):
        import_results([("fake", source)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_compressed_file_is_called_that(tmp_path: Path) -> None:
    for name, pack in {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}.items():
        (tmp_path / "r").write_bytes(pack((SAMPLES / "guidellm" / "concurrent.json").read_bytes()))
        with pytest.raises(ConfigError, match=rf"is compressed \({name}\)"):
            import_results([("guidellm", tmp_path / "r")], tmp_path / "out")


DEEP = '{"a":' * 100_000
FILES = {
    "guidellm": "benchmarks.json", "aiperf": "profile_export_aiperf.json", "vllm-bench": "r.json",
    "inference-perf": "summary_lifecycle_metrics.json", "llmeter": "responses.jsonl", "fmperf": "results.json",
    "llm-d-report": "r.yaml",
}  # fmt: skip


@pytest.mark.parametrize("tool", FILES)
@pytest.mark.parametrize("text", [DEEP, "[" * 100_000, f"[{DEEP}", "\0\1\2", "[]", "{}", ""], ids=range(7))
def test_whatever_a_file_of_a_tool_holds_is_no_bug_of_ours(tmp_path: Path, tool: str, text: str) -> None:
    (tmp_path / FILES[tool]).write_text(text)
    for path in (tmp_path, tmp_path / FILES[tool]):
        with pytest.raises(GeneratorError):
            ingest.read_results(tool, path)


@cache
def published(version: str) -> Any:
    name = f"br_v0_{version}_example.yaml"
    return yaml.safe_load(resources.files("llmd_benchmark_report").joinpath(name).read_text())


JUNK = st.sampled_from([None, "x", -1, 0, 1e300, [], {}, [1], {"a": 1}, True, "PT1S", 10**30, float("nan")])


@settings(max_examples=40, deadline=None)
@given(data=st.data(), version=st.sampled_from(["1", "2"]))
def test_a_report_with_anything_in_it_is_read_or_refused(
    data: st.DataObject, version: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    report = copy.deepcopy(published(version))
    node: Any = report
    while isinstance(node, dict) and node:
        key = data.draw(st.sampled_from(sorted(node, key=str)))
        if not isinstance(node[key], dict) or data.draw(st.integers(0, 4)) == 0:
            node[key] = data.draw(JUNK)
            break
        node = node[key]
    path = tmp_path_factory.mktemp("report") / "r.json"
    path.write_text(json.dumps(report, default=str))
    with suppress(GeneratorError):
        ingest.read_results("llm-d-report", path)


SAMPLES = Path(__file__).parents[1] / "samples"


def test_results_of_five_real_tools_in_one_import(tmp_path: Path) -> None:
    """Against a server that takes some 20 ms to the first token and 5 ms for each further one."""
    names = ("guidellm/concurrent.json", "aiperf", "inference-perf", "fmperf/results.json", "vllm-bench")
    _, result = import_results([("auto", SAMPLES / name) for name in names], tmp_path)
    assert [s.load_generator for s in result.stages] == [
        "guidellm", "aiperf", "inference-perf", "fmperf", "vllm-bench",
    ]  # fmt: skip
    assert len({s.index for s in result.stages}) == 5
    for stage in result.stages:
        tpot = stage.metrics.tpot
        assert isinstance(tpot, Distribution)
        assert 0.0045 < tpot.mean < 0.006
    groups = [[result.stages[i].load_generator for i in g.stages] for g in result.agreement if g.metrics]
    assert groups == [["guidellm", "fmperf"], ["aiperf", "inference-perf", "vllm-bench"]], "4 users, and 2"
    compared = {m.metric: m for m in result.agreement[1].metrics}
    assert {d.verdict for d in compared["output_length"].differences} == {"agree"}
    assert all(d.verdict != "differ" for d in compared["tpot.p50"].differences)
    own = {f.metric: [w.code for w in f.whys] for f in result.agreement[1].own_figures if f.stage == 2}
    assert own["e2e.mean"] == ["until_end"]


@pytest.mark.usefixtures("tools")
def test_our_own_report_imports_as_what_it_was_made_from(tmp_path: Path) -> None:
    source = write(tmp_path / "in", {"n": 400})
    folder, first = import_results([("fake", source)], tmp_path / "out")
    _, again = import_results([("llm-d-report", folder / "benchmark_report.yaml")], tmp_path / "again")
    assert again.stages[0].load_generator == "fake"
    for name in ("ttft", "tpot", "itl", "e2e"):
        a, b = (getattr(r.stages[0].metrics, name) for r in (first, again))
        assert b.mean == pytest.approx(a.mean)
        assert b.at("p99") == pytest.approx(a.at("p99"))
    assert again.requests == first.requests
    assert again.stages[0].load["tool"] == {"name": "fake", "version": "1.2"}


def test_an_upstream_report_imports(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(resources.files("llmd_benchmark_report").joinpath("br_v0_2_example.yaml").read_text())
    _, result = import_results([("auto", path)], tmp_path / "out")
    assert result.target.model == "Qwen/Qwen3-0.6B"
    assert {"inconsistent_data", "identity"} <= {f.code for f in result.findings}, "the example is made up"
