"""``generators``: list, install, check, remove, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.command import bench


def test_the_list_tells_what_each_is_and_whether_it_is_there(tmp_path: Path) -> None:
    env = {"LLM_D_BENCHMARK_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}
    done = bench("generators", "list", "--json", cwd=tmp_path, env=env)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {"native", "command", "guidellm", "fmperf"} <= rows.keys()
    assert rows["native"]["kind"] == "built-in"
    assert rows["guidellm"] == {
        "name": "guidellm", "kind": "external", "version": None, "python": ">=3.10,<3.14", "where": None,
        "outdated": False,
    }  # fmt: skip
    table = bench("generators", "list", cwd=tmp_path, env=env).stdout
    assert "not installed" in table
    assert table.splitlines()[0].split() == ["NAME", "KIND", "VERSION", "PYTHON", "WHERE"]


def test_what_is_not_installed_is_said_before_a_run_starts(tmp_path: Path) -> None:
    env = {"LLM_D_BENCHMARK_CACHE": str(tmp_path / "cache")}
    done = bench("run", "--target", "simulator", "--load-generator", "guidellm", "-o", "out", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "'guidellm' is not installed" in done.stderr
    assert "llm-d-benchmark generators install guidellm" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_check_of_what_is_not_there_fails_and_of_what_works_does_not(tmp_path: Path) -> None:
    env = {"LLM_D_BENCHMARK_CACHE": str(tmp_path / "cache")}
    done = bench("generators", "check", "native", "fmperf", "--json", cwd=tmp_path, env=env)
    assert done.returncode == 6
    good, bad = json.loads(done.stdout)
    assert good["ok"] is True
    assert good["figures"]["requests"] > 20
    assert bad["ok"] is False
    assert "not installed" in bad["problems"][0]


def test_mistakes_are_told(tmp_path: Path) -> None:
    env = {"LLM_D_BENCHMARK_CACHE": str(tmp_path / "cache")}
    for args, message in (
        (["install", "guidelm"], "did you mean 'guidellm'?"),
        (["install", "native"], "needs no installation"),
        (["install", "fmperf"], "is on no package registry; give --path"),
        (["install", "fmperf", "--light", "--path", "."], "has no light form"),
        (["install", "guidellm", "--path", "."], "is no Python environment with guidellm"),
    ):
        done = bench("generators", *args, cwd=tmp_path, env=env)
        assert done.returncode in (2, 6)
        assert message in done.stderr, args
        assert "Traceback" not in done.stderr
    assert "was not installed" in bench("generators", "remove", "guidellm", cwd=tmp_path, env=env).stdout
