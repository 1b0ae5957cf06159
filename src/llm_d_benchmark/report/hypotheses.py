"""What the diagnosis of a run suggests to test: in words, and as a search to paste into a configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from ..domain.study import Hypothesis, RunAdvice
from .format import DASH
from .tables import Html, HtmlTable, Rows

MOST_COMBINATIONS = 27
"""More combinations than this are sampled, not all measured."""
HOW = "save it as next.yaml and run: llm-d-benchmark explore -c YOUR.yaml -c next.yaml"


def hypothesis_lines(hypotheses: Sequence[Hypothesis]) -> Iterator[str]:
    """For a terminal; nothing where there are none."""
    if not hypotheses:
        return
    yield "to test, by what limited the runs (hypotheses, not settings):"
    for h in hypotheses:
        yield f"  {h.flag}: {h.change}"
        yield f"      because {_because(h)}"
        if h.key is None or not h.values:
            yield f"      {_by_hand(h)}"
    if search := next_search(hypotheses):
        yield ""
        yield f"the search that tests it; {HOW}"
        yield from (f"  {line}" for line in search.splitlines())


def advice_lines(advice: RunAdvice) -> Iterator[str]:
    """For a terminal or a file: YAML of the search, everything else as comments."""
    yield f"# what limited run {advice.run}:"
    for c in advice.diagnosis:
        stage = "" if c.stage is None else f"stage {c.stage}: "
        yield f"#   {stage}{c.claim} ({c.confidence} confidence: {'; '.join(c.evidence)})"
    yield "#"
    if not advice.hypotheses:
        yield "# no server flag is known to help against that"
        return
    yield "# server flags to test, not to believe:"
    for h in advice.hypotheses:
        yield f"#   {h.flag}: {h.change}"
        if h.key is None or not h.values:
            yield f"#     {_by_hand(h)}"
    if search := next_search(advice.hypotheses):
        yield f"# the search that tests them; {HOW}"
        yield search.rstrip()


def hypothesis_table(hypotheses: Sequence[Hypothesis]) -> HtmlTable:
    rows: Rows = [[h.flag, h.change, f"{h.key}: {_plain(h.values)}" if h.key and h.values else _by_hand(h), _because(h)]
                  for h in hypotheses]  # fmt: skip
    header: list[Html] = ["Flag", "Change", "As a factor of the next study", "Because"]
    return HtmlTable("Server flags", "What limited the runs suggests them.", header, rows, 3, words=True)


def next_search(hypotheses: Sequence[Hypothesis]) -> str:
    """YAML of a ``spec.experiment_design`` over the flags that the target's configuration can set; else empty."""
    factors = [h for h in hypotheses if h.key is not None and len(h.values) > 1]
    if not factors:
        return ""
    combinations = math.prod(len(h.values) for h in factors)
    design = "factorial_design" if combinations <= MOST_COMBINATIONS else "latin_hypercube"
    lines = ["spec:", "  experiment_design:", f"    type: {design}", "    factors:"]
    lines += [f"      - {{name: {h.key}, values: {_plain(h.values)}}}" for h in factors]
    return "\n".join([*lines, ""])


def _because(h: Hypothesis) -> str:
    return f"{h.because}, run {h.run}" if h.run else h.because


def _by_hand(h: Hypothesis) -> str:
    if h.key is None:
        return f"nothing in the configuration of this target sets {h.flag}: start the server with it, and compare"
    return f"its present value is not known: give {h.key} with values of your own"


def _plain(values: Sequence[object]) -> str:
    return "[" + ", ".join(v if isinstance(v, str) else json.dumps(v) for v in values) + "]" if values else DASH
