"""One service's SQL database: a SQLite file by default, PostgreSQL by URL.

Statements run synchronously in the event loop: on SQLite they take microseconds, less than handing them to a thread.
What is awaited is the right to write, because two open transactions of one SQLite file would wait for each other.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, MetaData, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

SQLITE_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",  # an acknowledged event must survive a power cut: the commit is on disk before the ack
    "foreign_keys=ON",
    "busy_timeout=10000",
)


class StoreUnavailableError(RuntimeError):
    """The database cannot be opened."""


class Store:
    """A database with its tables."""

    def __init__(self, url: str | URL, *tables: MetaData) -> None:
        """Open the database and create the tables that are missing.

        Args:
            url: An SQLAlchemy URL, for example ``sqlite:///state.db``.
            tables: What the service and the runtime keep there.

        Raises:
            StoreUnavailableError: the URL is malformed, the driver is missing, or the database does not answer.
        """
        try:
            parsed = make_url(url)
            self._engine = create_engine(parsed)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise StoreUnavailableError(
                f"database URL {url!s}: {error}; allowed are sqlite:///FILE and, with edgeloop[postgres], "
                "postgresql+psycopg://USER@HOST/NAME"
            ) from error
        self._one_writer = asyncio.Lock() if parsed.get_backend_name() == "sqlite" else None
        if self._one_writer:
            self._make_folder(parsed)
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_immediate)
        try:
            for metadata in tables:
                metadata.create_all(self._engine)
        except SQLAlchemyError as error:
            raise StoreUnavailableError(
                f"database {parsed.render_as_string()}: {error}; check that it runs and that its disk has room"
            ) from error

    @staticmethod
    def _make_folder(url: URL) -> None:
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Open a transaction: committed at the end of the block, rolled back when the block raises."""
        async with self._one_writer or nullcontext():
            with self._engine.begin() as connection:
                yield connection

    async def ping(self) -> None:
        """Raise `sqlalchemy.exc.SQLAlchemyError` unless the database answers."""
        with self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the DBAPI's own connection
    # SQLAlchemy, not the driver, says when a transaction begins: only so do savepoints and BEGIN IMMEDIATE work.
    connection.isolation_level = None
    for pragma in SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
