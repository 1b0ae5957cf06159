"""The built-in workloads pass the suite that authors of others run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llm_d_benchmark.testing.workload import Make, WorkloadConformance
from llm_d_benchmark.workload.conversation import ConversationWorkload
from llm_d_benchmark.workload.dataset import DatasetWorkload
from llm_d_benchmark.workload.shared_prefix import SharedPrefixWorkload
from llm_d_benchmark.workload.synthetic import SyntheticWorkload
from llm_d_benchmark.workload.trace import TraceWorkload

WIDE = {"distribution": "lognormal", "mean": 40, "std_dev": 30, "max": 200}


class TestSynthetic(WorkloadConformance):
    options: ClassVar[Mapping[str, Any]] = {"type": "synthetic", "input_length": WIDE, "output_length": WIDE}

    @pytest.fixture
    def make(self) -> Make:
        return SyntheticWorkload


class TestSharedPrefix(WorkloadConformance):
    options: ClassVar[Mapping[str, Any]] = {
        "type": "shared_prefix",
        "groups": 4,
        "prefix_length": 50,
        "question_length": WIDE,
    }

    @pytest.fixture
    def make(self) -> Make:
        return SharedPrefixWorkload


class TestSharedPrefixWithNumberedQuestions(WorkloadConformance):
    options: ClassVar[Mapping[str, Any]] = {
        "type": "shared_prefix",
        "groups": 2,
        "prompts_per_group": 3,
        "prefix_length": WIDE,
    }

    @pytest.fixture
    def make(self) -> Make:
        return SharedPrefixWorkload


class TestConversation(WorkloadConformance):
    options: ClassVar[Mapping[str, Any]] = {
        "type": "conversation",
        "turns": {"distribution": "uniform", "min": 1, "max": 5},
        "system_length": 20,
        "input_length": WIDE,
        "think_time": 2,
    }

    @pytest.fixture
    def make(self) -> Make:
        return ConversationWorkload


class TestDataset(WorkloadConformance):
    unique_across_stages = False

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        rows = [{"prompt": f"question {i} of many", "output_length": i + 1} for i in range(9)]
        rows += [{"messages": [{"role": "user", "content": "hello"}]}]
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.options = {"type": "dataset", "path": str(path)}  # type: ignore[misc]
        return DatasetWorkload


class TestTrace(WorkloadConformance):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        path = tmp_path / "trace.csv"
        path.write_text("timestamp,input_length,output_length\n" + "".join(f"{i / 7},{i + 1},5\n" for i in range(60)))
        self.options = {"type": "trace", "path": str(path)}  # type: ignore[misc]
        return TraceWorkload
