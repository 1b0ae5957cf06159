"""A database of SQLite or PostgreSQL that several processes write to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ..domain.errors import ConfigError, StoreError

WAIT_S = 30.0
LOCK = 0x6C6C6D64


class Database:
    """Transactions on a database.

    Args:
        url: an SQLAlchemy URL (sqlite, postgresql).
        name: what it is, for messages.
        example: a URL that would do.
        advice: what to do where it cannot be used.

    Raises:
        ConfigError: the URL cannot be used, or needs a package that is not installed.
    """

    def __init__(self, url: str, *, name: str, example: str, advice: str | None = None) -> None:
        self._name = name
        self._advice = advice
        self._engine = _engine(url, name, example)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction.

        Raises:
            StoreError: the database cannot be used; the password is not shown.
        """
        try:
            with self._engine.begin() as db:
                yield db
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            url = self._engine.url.render_as_string(hide_password=True)
            raise StoreError(f"{self._name} {url} cannot be used: {reason}", advice=self._advice) from None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: one at a time, whatever order each would take its rows in.

        Raises:
            StoreError: as ``reading``.
        """
        with self.reading() as db:
            if db.dialect.name == "postgresql":
                db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            yield db

    def close(self) -> None:
        self._engine.dispose()


def _engine(url: str, name: str, example: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql" and "+" not in parsed.drivername:
            parsed = parsed.set(drivername="postgresql+psycopg")
        lite = parsed.get_backend_name() == "sqlite"
        engine = create_engine(parsed, connect_args={"timeout": WAIT_S} if lite else {})
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"the URL of {name} is not usable: {error}", advice=f"for example {example}") from None
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the URL of {name} needs the package {error.name}", advice="pip install 'llm-d-benchmark[postgresql]'"
        ) from None
    if lite:
        _lock_when_begun(engine)
    return engine


def _lock_when_begun(engine: Engine) -> None:
    """SQLite takes its lock at the first write, too late to wait for another writer: take it at the beginning."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
