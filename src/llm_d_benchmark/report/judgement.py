"""The tables of the HTML report that judge: SLOs, the client's own load, identities, limits."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from ..domain.result import RunResult, Scalar
from .format import PERCENT, digits
from .numbers import Numbers, pointer_part
from .tables import Html, HtmlTable

_MARKS = {
    "pass": Markup('<span class="mark good">✓ met</span>'),
    "fail": Markup('<span class="mark bad">✗ missed</span>'),
    "inconclusive": Markup('<span class="mark warning">? inconclusive</span>'),
}
_HOLDS = {
    True: Markup('<span class="mark good">✓ holds</span>'),
    False: Markup('<span class="mark bad">✗ broken</span>'),
    None: Markup('<span class="mark">not checked</span>'),
}


def slos(result: RunResult, n: Numbers) -> HtmlTable | None:
    if not result.slos:
        return None
    rows = [
        [s.name, _MARKS[s.verdict], s.target, *_measured(n, i), _stage(result, s.stage), s.message]
        for i, s in enumerate(result.slos)
    ]
    header = ["Objective", "Verdict", "Target", "Measured", "95 % bound", "Stage", "Why"]
    caption = "A verdict rests on the confidence bound, not on the point estimate."
    return HtmlTable("Service level objectives", caption, header, rows, 3, words=True)


def _measured(n: Numbers, i: int) -> list[Html]:
    return [n.show(f"/slos/{i}/value"), n.show(f"/slos/{i}/bound")]


def workers(result: RunResult, n: Numbers) -> HtmlTable | None:
    if not result.validity.workers:
        return None
    names = ("cpu", "loop_lag_p50", "loop_lag_p99", "loop_lag_max")
    rows = [
        [w.worker, *(n.show(f"/validity/workers/{i}/{name}") for name in names)]
        for i, w in enumerate(result.validity.workers)
    ]
    header = ["Worker", "CPU (of a core)", "Loop lag p50", "p99", "max"]
    return HtmlTable("The client's own load", "Worker processes over the measured windows.", header, rows)


def identities(result: RunResult, n: Numbers) -> HtmlTable | None:
    if not result.validity.identities:
        return None
    rows: list[list[Html]] = []
    for i, identity in enumerate(result.validity.identities):
        base = f"/validity/identities/{i}"
        rows.append(
            [
                identity.name,
                _stage(result, identity.stage),
                n.show(f"{base}/left"),
                n.show(f"{base}/right"),
                n.show(f"{base}/tolerance", PERCENT),
                _HOLDS[identity.holds],
            ]
        )
    header = ["Identity", "Stage", "Left", "Right", "Tolerance", "Verdict"]
    return HtmlTable("Identities", "Relations that sound data satisfy.", header, rows, 2)


_STEADY = {
    True: Markup('<span class="mark good">✓ steady</span>'),
    False: Markup('<span class="mark warning">! drifting</span>'),
    None: Markup('<span class="mark">not judged</span>'),
}


def steadiness(result: RunResult, n: Numbers) -> HtmlTable | None:
    if not result.stages:
        return None
    rows: list[list[Html]] = []
    for i, stage in enumerate(result.stages):
        state = stage.steady_state
        would_drop = n.show(f"/stages/{i}/steady_state/truncation", PERCENT)
        rows.append([stage.name, _STEADY[state.steady], would_drop, state.series, state.message])
    header = ["Stage", "Verdict", "Would drop", "Judged on", "What was seen"]
    caption = "MSER-5 inside each window. It never cuts; “would drop” is what it would have."
    return HtmlTable("Steady state", caption, header, rows, 2, words=True)


def scalars(title: str, caption: str, base: str, values: Mapping[str, Scalar], n: Numbers) -> HtmlTable | None:
    """A named set of scalars: limits, cost, quality."""
    if not values:
        return None
    rows: list[list[Html]] = [[name.replace("_", " "), n.show(f"{base}/{pointer_part(name)}")] for name in values]
    return HtmlTable(title, caption, ["Name", "Value"], rows)


def _stage(result: RunResult, index: int | None) -> str:
    if index is None:
        return "all"
    return next((s.name for s in result.stages if s.index == index), digits(index))
