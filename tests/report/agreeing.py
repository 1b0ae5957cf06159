"""A result of three generators side by side, by hand."""

from __future__ import annotations

import dataclasses

from llm_d_benchmark.domain.result import (
    Absent,
    Agreement,
    Difference,
    Measured,
    MetricAgreement,
    OwnFigure,
    Reading,
    RunResult,
    Why,
)

from . import sample

CAUSE = Why("concurrency", "requests in flight on average (8 were asked for): native 8, guidellm 5")


def readings(*values: float | None) -> list[Reading]:
    absent = Absent("not told")
    return [
        Reading(i, absent) if v is None else Reading(i, Measured(v, "s"), v * 0.97, v * 1.03)
        for i, v in enumerate(values)
    ]


def compared(name: str, values: tuple[float | None, ...], *found: Difference) -> MetricAgreement:
    return MetricAgreement(name, "s", 0.05, True, readings(*values), found)


GROUP = Agreement(
    "c=8",
    [0, 1, 2],
    0.95,
    [
        compared(
            "ttft.p50",
            (0.1, 0.07, 0.1),
            Difference(0, 1, -0.3, -0.34, -0.26, "differ", [CAUSE]),
            Difference(0, 2, 0.0, -0.02, 0.02, "agree"),
            Difference(1, 2, 0.43, 0.37, 0.48, "differ", [CAUSE]),
        ),
        compared("e2e.p50", (1.0, 1.2, None), Difference(0, 1, 0.2, 0.15, 0.25, "differ")),
        compared("tpot.p50", (0.02, 0.02, 0.02), *(Difference(0, b, 0, -0.01, 0.01, "agree") for b in (1, 2))),
        compared("itl.p50", (None, None, None)),
    ],
    [OwnFigure(1, "tpot.mean", Measured(0.03, "s"), Measured(0.02, "s"), 0.5, [Why("token_weighted", "it weights")])],
)  # fmt: skip


def side_by_side() -> RunResult:
    names = ("native", "guidellm", "aiperf")
    stages = [dataclasses.replace(sample.stage(i, 4.0, 0.5), load_generator=n) for i, n in enumerate(names)]
    return dataclasses.replace(sample.result(1), stages=stages, agreement=[GROUP], saturation=None)
