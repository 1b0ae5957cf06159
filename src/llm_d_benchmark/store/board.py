"""Where the workers of one study agree who measures what, and tell each other what they found: a table of a database.

A run is claimed before it starts, in one transaction that the next worker waits for, so that none is measured twice. A
worker that lives says so every few seconds; what one claimed that has gone silent is free again, so none is lost.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, cast

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from ..domain.errors import StoreError
from .database import Database

BEAT_S = 5.0
SILENT_S = 60.0
"""A worker not heard of for so long is taken to be dead. The clocks of the machines have to agree better than that."""

METADATA = MetaData()
CLAIMS = Table(
    "llm_d_benchmark_claims", METADATA,
    Column("study", String(200), primary_key=True), Column("what", String(2000), primary_key=True),
    Column("number", Integer, primary_key=True), Column("method", String(40), nullable=False),
    Column("worker", String(40), nullable=False), Column("found", JSON),
)  # fmt: skip
WORKERS = Table(
    "llm_d_benchmark_workers", METADATA,
    Column("worker", String(40), primary_key=True), Column("heard", Float, nullable=False),
)  # fmt: skip

Answer = Literal["yours", "taken", "spent"]


class Board:
    """One worker's view of a study.

    Args:
        url: an SQLAlchemy URL of SQLite or PostgreSQL.
        study: the same for all workers of the study.

    Raises:
        ConfigError: the URL cannot be used.
        StoreError: the database cannot.
    """

    def __init__(self, url: str, study: str) -> None:
        self._database = Database(
            url, name="the storage of the study", example="sqlite:///study.db, or postgresql://USER@HOST/DB"
        )
        self._study = study
        self._worker = uuid.uuid4().hex
        self._taken: set[tuple[str, int]] = set()
        self._over = threading.Event()
        with self._database.writing() as db:
            METADATA.create_all(db)
            db.execute(insert(WORKERS), {"worker": self._worker, "heard": time.time()})
        self._beat = threading.Thread(target=self._beating, daemon=True)
        self._beat.start()

    def claim(self, what: str, number: int, method: str, most: int) -> Answer:
        """Ask for a run: ``what`` and how often it was run before.

        Args:
            most: runs of this method by all workers together; "spent" where there have been so many.
        """
        mine = (CLAIMS.c.study == self._study) & (CLAIMS.c.what == what) & (CLAIMS.c.number == number)
        with self._database.writing() as db:
            self._forget_dead(db)
            if db.execute(select(CLAIMS.c.worker).where(mine)).first() is not None:
                return "taken"
            of_method = (CLAIMS.c.study == self._study) & (CLAIMS.c.method == method)
            if db.execute(select(func.count()).select_from(CLAIMS).where(of_method)).scalar_one() >= most:
                return "spent"
            row = {"study": self._study, "what": what, "number": number, "method": method, "worker": self._worker}
            db.execute(insert(CLAIMS), row)
        return "yours"

    def tell(self, what: str, number: int, found: Mapping[str, Any] | None) -> None:
        """What became of a run that was claimed; None gives it back."""
        mine = (CLAIMS.c.study == self._study) & (CLAIMS.c.what == what) & (CLAIMS.c.number == number)
        with self._database.writing() as db:
            if found is None:
                db.execute(delete(CLAIMS).where(mine, CLAIMS.c.worker == self._worker))
            else:
                db.execute(update(CLAIMS).where(mine).values(found=dict(found)))

    def news(self) -> list[Mapping[str, Any]]:
        """What others told since the last time."""
        others = (CLAIMS.c.study == self._study) & (CLAIMS.c.worker != self._worker)
        with self._database.reading() as db:
            rows = db.execute(select(CLAIMS).where(others).order_by(CLAIMS.c.what, CLAIMS.c.number)).mappings().all()
        new = [r for r in rows if r["found"] is not None and (r["what"], r["number"]) not in self._taken]
        self._taken |= {(r["what"], r["number"]) for r in new}
        return [cast(Mapping[str, Any], r["found"]) for r in new]

    def waiting(self) -> bool:
        """Whether others that live are at runs that they have not told of."""
        open_ = (CLAIMS.c.study == self._study) & (CLAIMS.c.worker != self._worker) & CLAIMS.c.found.is_(None)
        with self._database.writing() as db:
            self._forget_dead(db)
            return db.execute(select(CLAIMS.c.what).where(open_)).first() is not None

    def close(self) -> None:
        """Give back what was claimed and not told."""
        self._over.set()
        self._beat.join()
        with self._database.writing() as db:
            db.execute(delete(CLAIMS).where(CLAIMS.c.worker == self._worker, CLAIMS.c.found.is_(None)))
        self._database.close()

    def _forget_dead(self, db: Connection) -> None:
        alive = select(WORKERS.c.worker).where(WORKERS.c.heard > time.time() - SILENT_S)
        db.execute(delete(CLAIMS).where(CLAIMS.c.found.is_(None), CLAIMS.c.worker.not_in(alive)))

    def _beating(self) -> None:
        while not self._over.wait(BEAT_S):
            # A beat that fails is made up for by the next; the study itself says what is wrong with the database.
            with suppress(StoreError), self._database.writing() as db:
                db.execute(update(WORKERS).where(WORKERS.c.worker == self._worker).values(heard=time.time()))
