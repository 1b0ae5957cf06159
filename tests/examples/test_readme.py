"""What the README shows is true: its YAML loads, its files exist, its commands are commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_d_benchmark.cli.app import app
from llm_d_benchmark.config.layers import load_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, re.S))
def test_yaml_loads(block: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(block)
    load_config([tmp_path / "c.yaml"], env={})


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_commands_exist() -> None:
    names = {c.name for c in app.registered_commands} | {g.name for g in app.registered_groups}
    for name in re.findall(r"^    llm-d-benchmark (\w+)", README, re.M):
        assert name in names, name
