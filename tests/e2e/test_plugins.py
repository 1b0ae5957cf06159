"""Broken load generators of other packages: what goes wrong in them is said of them, and costs nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command import LENIENT, bench, only_run, result_of, sets
from tests.support.openai_server import OpenAIServer

PLUGIN = """
import os

WHEN = os.environ.get("BAD")

class Bad:
    name = "bad"

    def __init__(self):
        if WHEN == "init":
            raise RuntimeError("no licence file")

    def check(self, config):
        if WHEN == "check":
            raise KeyError("nope")
        return []

    async def run(self, job):
        if WHEN == "run":
            raise ConnectionRefusedError(111, "Connection refused")
        return
        yield
"""
BOTH = """\
benchmark:
  load_generators:
    - {type: native, config: {concurrency: 2, num_requests: 40, input_length: 16, output_length: 4}}
    - {type: bad, config: {concurrency: 2, num_requests: 40, input_length: 16, output_length: 4}}
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """One package is installed whose generator raises when ``BAD`` says, and one that cannot be imported."""
    for package, entry in (("badplug", "bad = badplug:Bad"), ("gone", "gone = gone_missing:Gone")):
        info = tmp_path / "site" / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[llm_d_benchmark.load_generators]\n{entry}\n")
    (tmp_path / "site" / "badplug.py").write_text(PLUGIN)
    return {"PYTHONPATH": str(tmp_path / "site"), "LLM_D_BENCHMARK_CACHE": str(tmp_path / "cache")}


def test_one_that_raises_in_a_run_fails_alone(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "both.yaml").write_text(BOTH)
    with OpenAIServer() as server:
        done = bench(
            "run",
            "-c",
            "both.yaml",
            "--url",
            server.url,
            "-o",
            "out",
            *LENIENT,
            cwd=tmp_path,
            env={**env, "BAD": "run"},
        )
    assert done.returncode == 6, done.stderr
    assert "load generator 'bad' failed: ConnectionRefusedError: [Errno 111]" in done.stdout
    assert "package badplug (badplug:Bad)" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    result = result_of(tmp_path / "out")
    assert (result["status"], result["requests"]["succeeded"]) == ("partial", 40)
    assert [f["code"] for f in result["findings"] if f["severity"] == "error"] == ["generator_failed"]
    trace = (only_run(tmp_path / "out") / "logs" / "bad-traceback.txt").read_text()
    assert 'raise ConnectionRefusedError(111, "Connection refused")' in trace


@pytest.mark.parametrize(
    ("when", "says"),
    [("init", "RuntimeError: no licence file (badplug.py, line "), ("check", "KeyError: 'nope' (badplug.py, line ")],
)
def test_one_that_raises_before_is_told_before(when: str, says: str, tmp_path: Path, env: dict[str, str]) -> None:
    load = sets(concurrency=2, num_requests=4)
    done = bench(
        *("run", "--target", "simulator", "--load-generator", "bad", "-o", "out", *load),
        cwd=tmp_path,
        env={**env, "BAD": when},
    )
    assert done.returncode == 6
    assert f"error: load generator 'bad' failed: {says}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_that_cannot_be_imported_leaves_the_others_alone(tmp_path: Path, env: dict[str, str]) -> None:
    done = bench("generators", "list", cwd=tmp_path, env=env)
    assert done.returncode == 0
    assert "gone" in done.stdout
    assert "cannot be loaded" in done.stdout
    assert "warning: load generator 'gone' failed: ModuleNotFoundError: No module named 'gone_missing'" in done.stderr
    rows = json.loads(bench("generators", "list", "--json", cwd=tmp_path, env=env).stdout)
    assert [r["name"] for r in rows if "problem" in r] == ["gone"]
    sample = Path(__file__).parents[1] / "samples" / "guidellm" / "concurrent.json"
    for source in ("guidellm", "auto"):
        done = bench("import", "--from", source, str(sample), "-o", source, cwd=tmp_path, env=env)
        assert done.returncode in (0, 7), done.stderr
    done = bench("import", "--from", "gone", str(sample), "-o", "gone", cwd=tmp_path, env=env)
    assert done.returncode == 6
    assert "error: load generator 'gone' failed" in done.stderr
