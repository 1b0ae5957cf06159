"""The published schemas are those of the types, and documents read back as they were."""

from __future__ import annotations

import json

import jsonschema
import pytest

from llm_d_benchmark.analyze.comparison.regression import Arms, compare_arms
from llm_d_benchmark.domain.comparison import ArmInfo, History, RegressionResult
from llm_d_benchmark.domain.errors import StoreError
from llm_d_benchmark.store.comparison_json import SCHEMA_FILES, from_json, make_schema, published_schema, to_json
from tests.analyze.comparison.test_regression import QUESTION, arm


@pytest.mark.parametrize("kind", SCHEMA_FILES)
def test_the_published_schema_is_up_to_date(kind: type) -> None:
    assert json.loads(published_schema(kind)) == make_schema(kind), (
        "regenerate it with store.comparison_json.make_schema"
    )


def test_there_and_back() -> None:
    found = compare_arms(Arms(arm("a", 0), arm("b", 0.1, seed=3), True), QUESTION)
    result = RegressionResult(
        "s", "n", "fail", "m", "0", 1, 2, False, ArmInfo("a", {}), ArmInfo("b", {}), (), found.metrics, (),
        found.quarantined,
    )  # fmt: skip
    text = to_json(result)
    jsonschema.validate(json.loads(text), make_schema(RegressionResult))
    assert to_json(from_json(text, RegressionResult)) == text
    with pytest.raises(StoreError, match=r"trend-1"):
        from_json(text, History)
