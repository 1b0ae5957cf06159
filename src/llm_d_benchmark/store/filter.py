"""Which runs are meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are meant; what is None or empty restricts nothing. Names may hold * and ?, times are epoch ns."""

    name: str | None = None
    model: str | None = None
    target: str | None = None
    status: str | None = None
    generator: str | None = None
    since: int | None = None
    until: int | None = None
    simulated: bool | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def fits(self, name: str, model: str | None, labels: Mapping[str, str]) -> bool:
        """Whether a run of that name, model and labels is meant, as far as these say."""
        return (
            (self.name is None or fnmatchcase(name, self.name))
            and (self.model is None or fnmatchcase(model or "", self.model))
            and all(labels.get(k) == v for k, v in self.labels)
        )
