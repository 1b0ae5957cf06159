"""``config show | schema | migrate | init | validate`` as the command line calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_d_benchmark.cli.config import app
from llm_d_benchmark.config.layers import load_config, load_resolved
from llm_d_benchmark.config.migrate import migrate
from llm_d_benchmark.domain.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "examples"
BASIC = str(EXAMPLES / "mission" / "benchmark-config.yaml")


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[str, str]:
    assert app(list(args), standalone_mode=False) == 0
    return capsys.readouterr()


def test_show_is_the_configuration_with_origins_as_comments(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "show", BASIC, "--set", "spec.benchmark.drain=5s")
    lines = {line.split("  #")[0].strip(): line.split("  # ")[-1] for line in out.splitlines()}
    assert lines["duration: 1800.0"].endswith("benchmark-config.yaml:44")
    assert lines["drain: 5.0"] == "--set"
    assert lines["give_up: 30.0"] == "default"
    expected = load_config([Path(BASIC)], sets=["spec.benchmark.drain=5s"]).config
    assert load_resolved(out) == expected, "comments aside, it is the configuration"


def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "show", "-c", BASIC, "--json", "--load-generator", "fmperf")
    shown = json.loads(out)
    assert shown["config"]["spec"]["benchmark"]["load_generators"][0]["config"]["concurrency"] == 10
    origin = shown["origins"]["spec.benchmark.load_generators.0.config.concurrency"]
    assert origin.endswith("benchmark-config.yaml:36")
    assert len(shown["digest"]) == 64


def test_validate_says_what_cannot_be_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "validate", BASIC)
    assert out.startswith("valid: ")
    assert "cannot run here: spec.cluster and spec.models describe a deployment" in err
    with pytest.raises(ConfigError, match="no such file"):
        app(["validate", "no.yaml"], standalone_mode=False)


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "schema")
    assert json.loads(out)["title"] == "BenchmarkConfig"
    out, _ = run(capsys, "schema", "--result")
    assert "stages" in json.loads(out)["properties"]


def test_init_writes_a_file_that_loads_and_does_not_overwrite(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "b.yaml"
    run(capsys, "init", str(path))
    assert load_config([path], env={}).config.spec.target is not None
    with pytest.raises(ConfigError, match="exists already"):
        app(["init", str(path)], standalone_mode=False)
    path.write_text("x")
    run(capsys, "init", str(path), "--force")
    assert path.read_text() != "x"
    with pytest.raises(ConfigError, match="cannot be written"):
        app(["init", str(tmp_path / "no" / "b.yaml")], standalone_mode=False)


OLD = """\
# our benchmark
spec:
  benchmark:
    duration: 5m   # short
    load_generator: fmperf  # the old way
"""


def test_migrate_rewrites_the_line_and_keeps_the_rest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(OLD)
    out, _ = run(capsys, "migrate", str(path))
    assert out == OLD.replace("load_generator: fmperf", "load_generators: [{type: fmperf}]")
    assert path.read_text() == OLD
    run(capsys, "migrate", str(path), "--in-place")
    assert path.read_text() == out
    loaded = load_config([path], env={})
    assert loaded.warnings == ()
    assert loaded.config.spec.benchmark.load_generators[0].type == "fmperf"


@pytest.mark.parametrize(
    "text", ["load_generator: fmperf\n", 'load_generator: "fmperf"', "load_generator: {type: x}\n"]
)
def test_migrate_of_the_short_forms(text: str) -> None:
    assert "load_generators: [{" in migrate(text)


def test_migrate_keeps_line_ends_and_a_byte_order_mark(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes("\ufeffload_generator : fmperf  # ours\r\n".encode())
    run(capsys, "migrate", str(path), "--in-place")
    assert path.read_bytes() == "\ufeffload_generators: [{type: fmperf}]  # ours\r\n".encode()


def test_migrate_of_both_spellings_says_where_each_is() -> None:
    text = "spec:\n  benchmark:\n    load_generator: fmperf\n    load_generators:\n      - type: native\n"
    with pytest.raises(ConfigError, match=r"^f:3: the load generators are also given at f:4"):
        migrate(text, "f")


def test_migrate_leaves_a_new_file_alone_and_refuses_what_it_cannot_do() -> None:
    text = Path(BASIC).read_text()
    assert migrate(text) == text
    with pytest.raises(ConfigError, match="line by line"):
        migrate("spec: {benchmark: {load_generator: fmperf}}")
