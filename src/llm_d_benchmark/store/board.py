"""Where the workers of one study agree who measures what, and tell each other what they found: a table of a database.

A run is claimed before it starts, in one transaction that the next worker waits for, so that none is measured twice. A
worker that lives says so every few seconds; what one claimed that has gone silent is free again, so none is lost.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal, cast

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ..domain.errors import ConfigError, StoreError

BEAT_S = 5.0
SILENT_S = 60.0
"""A worker not heard of for so long is taken to be dead. The clocks of the machines have to agree better than that."""
WAIT_S = 30.0
LOCK = 0x6C6C6D64

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
        self._engine = _engine(url)
        self._study = study
        self._worker = uuid.uuid4().hex
        self._taken: set[tuple[str, int]] = set()
        self._over = threading.Event()
        with self._writing() as db:
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
        with self._writing() as db:
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
        with self._writing() as db:
            if found is None:
                db.execute(delete(CLAIMS).where(mine, CLAIMS.c.worker == self._worker))
            else:
                db.execute(update(CLAIMS).where(mine).values(found=dict(found)))

    def news(self) -> list[Mapping[str, Any]]:
        """What others told since the last time."""
        others = (CLAIMS.c.study == self._study) & (CLAIMS.c.worker != self._worker)
        with _said(self._engine), self._engine.connect() as db:
            rows = db.execute(select(CLAIMS).where(others).order_by(CLAIMS.c.what, CLAIMS.c.number)).mappings().all()
        new = [r for r in rows if r["found"] is not None and (r["what"], r["number"]) not in self._taken]
        self._taken |= {(r["what"], r["number"]) for r in new}
        return [cast(Mapping[str, Any], r["found"]) for r in new]

    def waiting(self) -> bool:
        """Whether others that live are at runs that they have not told of."""
        open_ = (CLAIMS.c.study == self._study) & (CLAIMS.c.worker != self._worker) & CLAIMS.c.found.is_(None)
        with self._writing() as db:
            self._forget_dead(db)
            return db.execute(select(CLAIMS.c.what).where(open_)).first() is not None

    def close(self) -> None:
        """Give back what was claimed and not told."""
        self._over.set()
        self._beat.join()
        with self._writing() as db:
            db.execute(delete(CLAIMS).where(CLAIMS.c.worker == self._worker, CLAIMS.c.found.is_(None)))
        self._engine.dispose()

    def _forget_dead(self, db: Connection) -> None:
        alive = select(WORKERS.c.worker).where(WORKERS.c.heard > time.time() - SILENT_S)
        db.execute(delete(CLAIMS).where(CLAIMS.c.found.is_(None), CLAIMS.c.worker.not_in(alive)))

    def _beating(self) -> None:
        while not self._over.wait(BEAT_S):
            # A beat that fails is made up for by the next; the study itself says what is wrong with the database.
            with suppress(StoreError), self._writing() as db:
                db.execute(update(WORKERS).where(WORKERS.c.worker == self._worker).values(heard=time.time()))

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _said(self._engine), self._engine.begin() as db:
            if db.dialect.name == "postgresql":
                db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            yield db


def _engine(url: str) -> Engine:
    advice = "for example sqlite:///study.db, or postgresql://USER@HOST/DB"
    try:
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"the storage of the study is no database that is known: {error}", advice=advice) from None
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the storage of the study needs the package {error.name}",
            advice="pip install 'llm-d-benchmark[postgresql]'",
        ) from None
    if engine.dialect.name == "sqlite":
        _lock_when_begun(engine)
    return engine


def _lock_when_begun(engine: Engine) -> None:
    """SQLite takes its lock at the first write, too late to wait for another writer: take it at the beginning."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {int(WAIT_S * 1000)}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _said(engine: Engine) -> Iterator[None]:
    """A database that fails is an error with a sentence, not a traceback. The password is not shown."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        url = engine.url.render_as_string(hide_password=True)
        raise StoreError(f"the storage of the study {url} cannot be used: {reason}") from None
