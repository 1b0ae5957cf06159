"""The JSON Schema accepts what the loader accepts; the reference page is current and complete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from docs.generate import PAGES
from llm_d_benchmark.config.explain import models_in, walk
from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.config.model import BenchmarkConfig
from llm_d_benchmark.config.schema import json_schema
from llm_d_benchmark.config.source import read_file, read_text

ROOT = Path(__file__).parents[2]
DOCUMENTS = [f for f in sorted(ROOT.glob("examples/**/*.yaml")) if "kind: BenchmarkConfig" in f.read_text()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.stem)
def test_documents_are_valid_under_the_schema_as_written_and_resolved(path: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(read_file(path).plain(), schema)
    jsonschema.validate(load_config([path], env={}).config.to_dict(), schema)


@pytest.mark.parametrize("text", ["spec: {benchmark: {duraton: 5}}", "kind: Job", "spec: {benchmark: {duration: []}}"])
def test_the_schema_refuses_mistakes(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read_text(text, "x").plain(), json_schema())


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `make docs`"


def test_every_key_is_described() -> None:
    described = [(p, f.description or any(m.__doc__ for m in _models(f.annotation))) for p, f in walk(BenchmarkConfig)]
    assert [".".join(map(str, p)) for p, text in described if not text] == []


def _models(annotation: object) -> list[type]:
    found = list(models_in(annotation))
    for argument in getattr(annotation, "__args__", ()):
        found += _models(argument)
    return found


def test_loading_a_configuration_imports_nothing_heavy() -> None:
    code = (
        "import sys; from llm_d_benchmark.config.layers import load_config; load_config([], env={}); "
        "print([m for m in ('numpy', 'scipy', 'plotly', 'aiohttp', 'rich', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_commands_of_config_import_nothing_until_they_run() -> None:
    code = (
        "import sys, llm_d_benchmark.cli.config; print([m for m in ('pydantic', 'yaml', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
