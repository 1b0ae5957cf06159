"""An index of run folders, for finding among tens of thousands of them.

It is made from the folders and can be made again at any time: what counts is always on disk. Any number of processes
may bring it up to date at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, and_, delete, select

from ..domain.errors import StoreError
from .database import Database
from .digest import Row, digest_run, stamp
from .filter import RunFilter
from .folder import run_folders
from .tables import METADATA, RUNS, STAGES

FILE = ".index.sqlite"
BATCH = 200
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class IndexedStage:
    """One stage of a run; ``metrics`` is {"ttft.p99": (value, unit)} of what was measured."""

    index: int
    name: str
    load_generator: str
    load: str
    seconds: float
    metrics: dict[str, tuple[float, str]]


@dataclass(frozen=True, slots=True)
class IndexedRun:
    """One run as the index has it. Times are epoch ns."""

    path: Path
    run_id: str
    name: str
    status: str
    simulated: bool
    started: int
    ended: int
    target: str
    model: str | None
    server: str | None
    fingerprint: str
    tool_version: str
    config_digest: str
    slos: str
    requests: int
    failed: int
    labels: dict[str, str] = field(default_factory=dict)
    stages: tuple[IndexedStage, ...] = ()


class RunIndex:
    """The index of the runs under ``root``; use as a context.

    Args:
        url: an SQLAlchemy URL (sqlite, postgresql); default: a file in ``root``, or memory where none can be there.
    """

    def __init__(self, root: Path, url: str | None = None) -> None:
        self.root = root.absolute()
        if not self.root.is_dir():
            raise StoreError(f"{root} is no folder", advice="name the folder that holds run folders")
        self._database = Database(
            url or _default(self.root),
            name="the index",
            example="sqlite:///runs.sqlite",
            advice="it holds nothing that is not in the run folders: delete it, or name another with --index",
        )
        with self._database.writing() as db:
            METADATA.create_all(db)

    def __enter__(self) -> RunIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def sync(self, progress: Progress | None = None) -> int:
        """Bring the index up to date with the folders; how many of them were read.

        Args:
            progress: told how many of the changed folders are done, and how many there are.
        """
        found = {str(p): stamp(p) for p in run_folders(self.root)}
        under = RUNS.c.path.startswith(str(self.root), autoescape=True)
        with self._database.reading() as db:
            known = {row.path: row.stamp for row in db.execute(select(RUNS.c.path, RUNS.c.stamp).where(under))}
        gone = [p for p in known if p not in found and Path(p).is_relative_to(self.root)]
        changed = [p for p, seen in found.items() if known.get(p) != seen]
        for at in range(0, len(gone), BATCH):
            with self._database.writing() as db:
                _forget(db, gone[at : at + BATCH])
        for at in range(0, len(changed), BATCH):
            part = changed[at : at + BATCH]
            digests = [d for p in part if (d := digest_run(Path(p), found[p])) is not None]
            with self._database.writing() as db:
                _remember(db, digests)
            if progress is not None:
                progress(at + len(part), len(changed))
        return len(changed)

    def rebuild(self, progress: Progress | None = None) -> int:
        """Forget everything under the root and read all folders again."""
        with self._database.writing() as db:
            under = str(self.root)
            _forget(db, [p for (p,) in db.execute(select(RUNS.c.path)) if Path(p).is_relative_to(under)])
        return self.sync(progress)

    def runs(
        self, wanted: RunFilter | None = None, *, limit: int | None = None, stages: bool = False
    ) -> list[IndexedRun]:
        """Runs that ``wanted`` means, latest first, with their stages where asked for."""
        wanted = wanted or RunFilter()
        query = select(RUNS).where(and_(True, *_conditions(wanted, str(self.root)))).order_by(RUNS.c.started.desc())
        with self._database.reading() as db:
            rows = [dict(r) for r in db.execute(query).mappings()]
            rows = [r for r in rows if _matches(r, wanted, self.root)]
            if wanted.generator is not None:
                having = select(STAGES.c.path).where(STAGES.c.load_generator == wanted.generator)
                names = {p for (p,) in db.execute(having)}
                rows = [r for r in rows if r["path"] in names]
            rows = rows if limit is None else rows[:limit]
            found = _stages(db, [r["path"] for r in rows]) if stages else {}
        return [_run(r, found.get(r["path"], ())) for r in rows]

    def resolve(self, wanted: str) -> IndexedRun:
        """The run of that path, id or unambiguous beginning of an id.

        Raises:
            StoreError: there is none, or more than one.
        """
        runs = self.runs()
        path = Path(wanted).absolute()
        exact = [r for r in runs if r.path == path or r.run_id == wanted]
        close = exact or [r for r in runs if r.run_id.startswith(wanted)]
        if len(close) == 1:
            return self._whole(close[0])
        if close:
            names = ", ".join(str(r.path) for r in close[:5])
            raise StoreError(f"'{wanted}' means {len(close)} runs: {names}", advice="give more of the id, or the path")
        raise StoreError(f"no run '{wanted}' under {self.root}", advice="llm-d-benchmark runs list")

    def _whole(self, run: IndexedRun) -> IndexedRun:
        with self._database.reading() as db:
            row = db.execute(select(RUNS).where(RUNS.c.path == str(run.path))).mappings().one()
            return _run(dict(row), _stages(db, [str(run.path)]).get(str(run.path), ()))


def _default(root: Path) -> str:
    file = root / FILE
    return f"sqlite:///{file}" if os.access(file if file.exists() else root, os.W_OK) else "sqlite://"


def _forget(db: Connection, paths: Sequence[str]) -> None:
    for table in (STAGES, RUNS):
        db.execute(delete(table).where(table.c.path.in_(paths)))


def _remember(db: Connection, digests: Sequence[tuple[Row, list[Row]]]) -> None:
    """Put runs in, or in place of what another process put in meanwhile."""
    if not digests:
        return
    if db.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    for table, rows in ((RUNS, [row for row, _ in digests]), (STAGES, [s for _, stages in digests for s in stages])):
        if table is STAGES:
            db.execute(delete(STAGES).where(STAGES.c.path.in_([row["path"] for row, _ in digests])))
        if rows:
            keys = [c.name for c in table.primary_key]
            put = insert(table)
            new = {c.name: put.excluded[c.name] for c in table.c if c.name not in keys}
            db.execute(put.on_conflict_do_update(index_elements=keys, set_=new), sorted(rows, key=lambda r: r["path"]))


def _conditions(wanted: RunFilter, root: str) -> Iterator[Any]:
    yield RUNS.c.path.startswith(root, autoescape=True)
    if wanted.target is not None:
        yield RUNS.c.target == wanted.target
    if wanted.status is not None:
        yield RUNS.c.status == wanted.status
    if wanted.since is not None:
        yield RUNS.c.started >= wanted.since
    if wanted.until is not None:
        yield RUNS.c.started < wanted.until
    if wanted.simulated is not None:
        yield RUNS.c.simulated == wanted.simulated


def _matches(row: Row, wanted: RunFilter, root: Path) -> bool:
    """What SQL cannot tell, or not in the same way everywhere."""
    inside = Path(row["path"]).is_relative_to(root)
    return inside and wanted.fits(row["name"], row["model"], json.loads(row["labels"]))


def _stages(db: Connection, paths: Sequence[str]) -> dict[str, tuple[IndexedStage, ...]]:
    found: dict[str, list[IndexedStage]] = {}
    for at in range(0, len(paths), BATCH):
        query = select(STAGES).where(STAGES.c.path.in_(paths[at : at + BATCH])).order_by(STAGES.c.path, STAGES.c.stage)
        for row in db.execute(query).mappings():
            metrics = {k: (v, unit) for k, (v, unit) in json.loads(row["metrics"]).items()}
            stage = IndexedStage(row["stage"], row["name"], row["load_generator"], row["load"], row["seconds"], metrics)
            found.setdefault(row["path"], []).append(stage)
    return {path: tuple(stages) for path, stages in found.items()}


def _run(row: Row, stages: tuple[IndexedStage, ...]) -> IndexedRun:
    known = {k: v for k, v in row.items() if k not in ("path", "labels", "stamp")}
    return IndexedRun(path=Path(row["path"]), labels=json.loads(row["labels"]), stages=stages, **known)
