"""Prompt lengths as the server counts them: what a chat template adds is left out of what a tool is asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...config.load import Length, LoadConfig
from ...domain.records import MISSING, Records
from ...workload.synthetic import SyntheticOptions
from .plan import options, workload_type


def without_template(config: LoadConfig, tokens: int) -> LoadConfig:
    """The configuration whose prompts, with ``tokens`` added by the server, have the lengths that were asked for.

    Only of synthetic prompts; a length from a file stays as it is.
    """
    if tokens == 0 or workload_type(config) != "synthetic":
        return config
    length = options(SyntheticOptions, config).input_length
    if length.distribution == "file":
        return config
    workload = {k: v for k, v in config.workload.items() if k != "input_length"}
    return config.model_copy(update={"input_length": shorter(length, tokens), "workload": workload})


def shorter(length: Length, tokens: int) -> Length:
    """The distribution moved down by so many tokens, to one token at least."""
    moved: Mapping[str, float] = {
        key: max(1, value - tokens)
        for key in ("value", "mean", "min", "max")
        if (value := getattr(length, key)) is not None
    }
    return length.model_copy(update=dict(moved))


def with_template(records: Records, tokens: int) -> Records:
    """The records of a tool that was asked for ``tokens`` fewer, with the prompt lengths that were asked for."""
    asked = records.ints("input_asked")
    if tokens == 0 or not len(records):
        return records
    return Records({**records.columns, "input_asked": np.where(asked == MISSING, MISSING, asked + tokens)})
