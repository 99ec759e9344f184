"""Owns statements that are made once, with parameters, and on SQLite are run past SQLAlchemy.

SQLAlchemy writes each of them, once for each engine. What it does around a statement each time (a context, a cursor, a
result) takes ten times as long as SQLite takes to find a row; where a unit of work has the connection in its own thread
nothing of that is needed. PostgreSQL, and units in the event loop, go through SQLAlchemy as ever.
"""

from __future__ import annotations

import collections
import logging
import operator
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

# Where SQLAlchemy tells of statements, for who wants to see them.
_log = logging.getLogger("sqlalchemy.engine.Engine")
_EXPANDING = re.compile(r"\(__\[POSTCOMPILE_(\w+)\]\)")
Processor = Callable[[Any], Any]
S = TypeVar("S", bound=sa.Executable)

_all: dict[int, sa.Executable] = {}
"""By identity: what is a statement's equal is a statement again."""


def prepared(statement: S) -> S:
    """The same statement, which is run the short way where there is one. For module level: it is kept for ever."""
    _all[id(statement)] = statement
    return statement


def is_prepared(statement: sa.Executable) -> bool:
    return id(statement) in _all


def list_prepared() -> list[sa.Executable]:
    return list(_all.values())


class Rows:
    """All rows of a statement, with as much of the face of SQLAlchemy's result as is used here."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        return self._rows

    def first(self) -> Any | None:
        return self._rows[0] if self._rows else None

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None


class Prepared:
    """A statement for one dialect, and for rows that have these names."""

    def __init__(self, statement: sa.Executable, dialect: Dialect, names: Sequence[str] | None) -> None:
        """`names` are of the values, where the statement inserts; else None. Raises ValueError for a statement that
        this can't do.
        """
        compiled: Any = statement.compile(dialect=dialect, column_keys=names)  # type: ignore[attr-defined]
        if compiled.insert_prefetch or compiled.update_prefetch or compiled.literal_execute_params:
            raise ValueError(f"has values that SQLAlchemy would find anew each time: {compiled}")
        self._sql = str(compiled)
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        self._places = [(name, _into(compiled.binds[name].type, dialect)) for name in compiled.positiontup]
        self._expanding = {bind.key for bind in compiled.post_compile_params}
        if len(self._expanding) != len(_EXPANDING.findall(self._sql)):
            raise ValueError(f"expands in a way that is not known here: {compiled}")
        columns = getattr(statement, "exported_columns", ())
        self._row: Any = _row_type([(column.name, column.key or column.name) for column in columns])
        self._out = [
            (place, process)
            for place, process in enumerate(_out_of(column.type, dialect) for column in columns)
            if process is not None
        ]

    def run(self, connection: sqlite3.Connection, values: Mapping[str, Any]) -> Rows:
        """Raises SQLAlchemy's errors, as this and `run_many` do for whatever the driver raises."""
        sql, parameters = self._bound(values)
        try:
            cursor = connection.execute(sql, parameters)
            rows = [self._read(row) for row in cursor.fetchall()] if cursor.description else []
        except sqlite3.Error as error:
            raise self._translated(error) from error
        return Rows(rows, cursor.rowcount)

    def run_many(self, connection: sqlite3.Connection, values: Sequence[Mapping[str, Any]]) -> Rows:
        """For each of the values; they return nothing."""
        many = [self._bound(one)[1] for one in values]
        try:
            return Rows([], connection.executemany(self._sql, many).rowcount)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error) -> BaseException:
        # Without the parameters, which may hold e-mail addresses and metadata.
        return DBAPIError.instance(self._sql, None, error, sqlite3.Error, hide_parameters=True)

    def _bound(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        parameters: list[Any] = []
        sql = self._sql
        for name, process in self._places:
            value = values[name] if name in values else self._fixed[name]
            if name in self._expanding:
                marks = ", ".join("?" * len(value)) or "SELECT 1 WHERE 1 != 1"
                sql = sql.replace(f"(__[POSTCOMPILE_{name}])", f"({marks})")
                parameters += value if process is None else map(process, value)
            else:
                parameters.append(value if process is None else process(value))
        return sql, parameters

    def _read(self, row: tuple[Any, ...]) -> Any:
        if not self._out:
            return self._row._make(row)
        found = list(row)
        for place, process in self._out:
            found[place] = process(found[place])
        return self._row._make(found)


class PreparedStatements:
    """Those of one engine. For any number of threads: what two of them make at once is the same."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._made: dict[tuple[int, tuple[str, ...] | None], Prepared] = {}

    def run(
        self,
        connection: sqlite3.Connection,
        statement: sa.Executable,
        values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    ) -> Rows | None:
        """None where SQLAlchemy is to do it: for a statement that is not prepared, several rows that return something,
        and who wants to see statements in the log.
        """
        if id(statement) not in _all or _log.isEnabledFor(logging.INFO):
            return None
        if isinstance(values, Sequence):
            if len(values) != 1:
                if not values or len({*map(tuple, values)}) != 1 or _returns(statement):
                    return None
                return self._get(statement, values[0]).run_many(connection, values)
            values = values[0]
        return self._get(statement, values or {}).run(connection, values or {})

    def _get(self, statement: sa.Executable, values: Mapping[str, Any]) -> Prepared:
        names = tuple(values) if isinstance(statement, sa.Insert) else None
        made = self._made.get((id(statement), names))
        if made is None:
            made = self._made[id(statement), names] = Prepared(statement, self._dialect, names)
        return made


def _returns(statement: sa.Executable) -> bool:
    return bool(getattr(statement, "exported_columns", ()))


def _into(type_: sa.types.TypeEngine[Any], dialect: Dialect) -> Processor | None:
    return type_.dialect_impl(dialect).bind_processor(dialect)


def _out_of(type_: sa.types.TypeEngine[Any], dialect: Dialect) -> Processor | None:
    return type_.dialect_impl(dialect).result_processor(dialect, None)


def _row_type(names: Sequence[tuple[str, str]]) -> Any:
    """As SQLAlchemy's rows: named as in the table, and to be asked by the column's key as well."""
    made: Any = collections.namedtuple("Row", [name for name, _ in names])  # type: ignore[misc]
    for place, (name, key) in enumerate(names):
        if key != name:
            setattr(made, key, property(operator.itemgetter(place)))
    made._mapping = property(made._asdict)  # type: ignore[attr-defined]
    return made
