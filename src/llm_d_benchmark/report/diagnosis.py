"""The diagnosis as text: each claim once, with the stages it is made of."""

from __future__ import annotations

from ..domain.result import Claim, RunResult


def claims(result: RunResult) -> list[tuple[Claim, list[str]]]:
    """Every claim with the names of its stages, in the order of the first; of equal claims the first one's evidence."""
    names = {s.index: s.name for s in result.stages}
    found: dict[tuple[str, str], tuple[Claim, list[str]]] = {}
    for claim in result.diagnosis:
        _, stages = found.setdefault((claim.claim, claim.confidence), (claim, []))
        if claim.stage is not None:
            stages.append(names.get(claim.stage, str(claim.stage)))
    return list(found.values())


def lines(result: RunResult) -> list[str]:
    """One line for each claim that is one: ``decoding took most of a request's time (high; c=1, c=2): ...``."""
    several = len(result.stages) > 1
    return [
        f"{claim.claim} ({'; '.join([claim.confidence, *([', '.join(stages)] if several and stages else [])])}): "
        + "; ".join(claim.evidence)
        for claim, stages in claims(result)
        if claim.confidence != "unknown"
    ]
