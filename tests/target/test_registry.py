from __future__ import annotations

import pytest

from llm_d_benchmark.config.target import TargetConfig
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.target.local import LocalTarget
from llm_d_benchmark.target.registry import available, create_target


def test_built_ins_are_found_through_their_entry_points() -> None:
    assert {"existing", "process", "local"} <= set(available())
    assert isinstance(create_target(TargetConfig.model_validate("local")), LocalTarget)


def test_an_unknown_type_has_the_nearest_spelling_and_the_list() -> None:
    with pytest.raises(ConfigError, match="did you mean 'existing'") as caught:
        create_target(TargetConfig(type="exsiting"))
    assert "existing, local, process" in str(caught.value.advice)


@pytest.mark.parametrize("kind", ["kubernetes"])
def test_what_later_versions_run_is_said_with_an_alternative(kind: str) -> None:
    with pytest.raises(ConfigError, match="not available in this version") as caught:
        create_target(TargetConfig(type=kind))
    assert "--" in str(caught.value.advice)
