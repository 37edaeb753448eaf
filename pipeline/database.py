"""Evergreen's own database: SQLite or PostgreSQL, one way to open it, one way to change it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from pipeline.errors import OutsideFailure

tables = sa.MetaData()
"""Every table of Evergreen; the modules that own them add theirs."""
WAIT_SECONDS = 60
"""For others who write into SQLite."""
LOCK = 0x45766572
"""Of PostgreSQL, held while tables are made: "Ever"."""


class Database:
    """Transactions on one database. Its tables are made when it is first used."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's; SQLite and PostgreSQL are supported. Nothing is opened yet."""
        self.url = url
        self._made = False
        if url.startswith("sqlite"):
            self._engine = sa.create_engine(url, connect_args={"timeout": WAIT_SECONDS}, poolclass=sa.NullPool)
        else:
            self._engine = sa.create_engine(url, pool_pre_ping=True, pool_size=2)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def transaction(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        """All of it or nothing. `writes`: on SQLite take the write lock first, so that it cannot fail midway.

        Raises OutsideFailure where the database does not do its part; IntegrityError passes through.
        """
        try:
            self._make_tables()
            with self._engine.begin() as connection:
                if writes and self.is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            where = self._engine.url.render_as_string(hide_password=True)
            reason = str(error).splitlines()[0]
            raise OutsideFailure(f"the database {where} failed: {reason}; see EVERGREEN_DATABASE_URL") from error

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _write_ahead(self) -> None:
        """Switch SQLite to its write-ahead log. For this alone it does not wait for others, so we do."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                with self._engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                return
            except OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def _make_tables(self) -> None:
        """Create what is missing; two processes may do so at once."""
        if self._made:
            return
        if self.is_sqlite and self._engine.url.database:
            Path(self._engine.url.database).parent.mkdir(parents=True, exist_ok=True)
            self._write_ahead()
        if set(tables.tables) <= set(sa.inspect(self._engine).get_table_names()):
            self._made = True
            return
        with self._engine.begin() as connection:
            # One process at a time: what create_all sees missing, another could make before it does.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if self.is_sqlite else f"SELECT pg_advisory_xact_lock({LOCK})")
            tables.create_all(connection)
        self._made = True
