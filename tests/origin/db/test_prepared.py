"""Statements that go past SQLAlchemy on SQLite: they give, raise and keep what they do through it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from keywright.origin.db import prepared as prepared_module
from keywright.origin.db import sqlite
from keywright.origin.db.prepared import Prepared, PreparedStatements, is_prepared, list_prepared, prepared
from keywright.origin.db.tables import UtcTime
from support import service as services

TABLE = sa.Table(
    "things", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True), sa.Column("name", sa.Text, unique=True),
    sa.Column("made_at", UtcTime, key="made"), sa.Column("is_good", sa.Boolean),
)  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = sqlite.create_plain_engine(sa.make_url(f"sqlite:///{tmp_path}/things.db"), connections=1)
    TABLE.metadata.create_all(made)
    yield made
    made.dispose()


def run(engine: sa.Engine, statement: Any, values: Any) -> Any:
    statements = PreparedStatements(engine.dialect)
    with engine.connect() as connection, connection.begin():
        return statements.run(connection.connection.driver_connection, prepared(statement), values)  # type: ignore[arg-type]


async def test_what_a_request_reads_is_what_sqlalchemy_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: dict[int, tuple[Any, Any]] = {}
    shortly = PreparedStatements.run

    def note(self: PreparedStatements, connection: Any, statement: Any, values: Any) -> Any:
        found = shortly(self, connection, statement, values)
        if found is not None and isinstance(statement, sa.Select) and found.first() is not None:
            ran[id(statement)] = statement, values
        return found

    monkeypatch.setattr(PreparedStatements, "run", note)
    async with services.running(services.settings_for(tmp_path)) as service:
        body = {"name": "other-account"}
        await service.call("POST", "/v1/accounts", json=body)
        grant = {"account": "other-account", "access": "read"}
        await service.call("POST", f"{service.bucket_url}/grants", json=grant)
        consumer = await service.new_consumer(tags={"a": "b"}, metadata={"plan": "gold"}, scopes=["a"])
        await service.new_key(consumer["name"], scopes=["a"], expiresOn="2100-01-01T00:00:00.000Z")
    assert len(ran) >= 7
    engine = sa.create_engine(f"sqlite:///{tmp_path}/keywright.db")
    with engine.connect() as connection:
        for statement, values in ran.values():
            driver: Any = connection.connection.driver_connection
            told = shortly(PreparedStatements(engine.dialect), driver, statement, values)
            assert told is not None
            by_sqlalchemy = connection.execute(statement, values).all()
            assert [dict(row._mapping) for row in told] == [dict(row._mapping) for row in by_sqlalchemy]
            assert [tuple(row) for row in told] == [tuple(row) for row in by_sqlalchemy]
    engine.dispose()


def test_every_prepared_statement_can_be_run_the_short_way(engine: sa.Engine) -> None:
    found = list_prepared()
    # Those that insert are made for the names that they are given.
    assert len([Prepared(one, engine.dialect, None) for one in found if not isinstance(one, sa.Insert)]) > 10


def test_a_column_without_a_name_of_its_own_is_found_by_the_databases(engine: sa.Engine) -> None:
    run(engine, sa.insert(TABLE), [{"name": "a"}])
    counted = prepared(sa.select(sa.func.count(TABLE.c.number)))
    assert run(engine, counted, {}).scalar() == 1


def test_rows_are_inserted_one_by_one_and_many_at_once(engine: sa.Engine) -> None:
    returning, silent = sa.insert(TABLE).returning(TABLE.c.number), sa.insert(TABLE)
    assert run(engine, returning, {"name": "a", "is_good": True}).scalar() == 1
    assert run(engine, returning, [{"name": "b"}]).first().number == 2
    assert run(engine, silent, [{"name": "c", "is_good": False}, {"name": "d", "is_good": True}]).rowcount == 2
    # What returns something for several rows is SQLAlchemy's, and so are rows of different names.
    assert run(engine, returning, [{"name": "e"}, {"name": "f"}]) is None
    assert run(engine, silent, [{"name": "e"}, {"is_good": True}]) is None
    assert run(engine, silent, []) is None
    rows = run(engine, sa.select(TABLE).order_by(TABLE.c.number), {}).all()
    assert [(row.name, row.is_good) for row in rows] == [("a", True), ("b", None), ("c", False), ("d", True)]


@pytest.mark.parametrize("numbers", [[], [1], [2, 1, 3]])
def test_a_list_is_as_long_as_it_is(engine: sa.Engine, numbers: list[int]) -> None:
    run(engine, sa.insert(TABLE), [{"name": "a"}, {"name": "b"}, {"name": "c"}])
    wanted = sa.select(TABLE.c.number).where(TABLE.c.number.in_(sa.bindparam("numbers", expanding=True)))
    found = run(engine, wanted.where(TABLE.c.name != sa.bindparam("name")), {"numbers": numbers, "name": "b"})
    assert {row.number for row in found} == set(numbers) - {2}


def test_a_value_that_is_missing_is_an_error_and_never_null(engine: sa.Engine) -> None:
    with pytest.raises(KeyError, match="name"):
        run(engine, sa.select(TABLE).where(TABLE.c.name == sa.bindparam("name")), {})


def test_failures_are_those_of_sqlalchemy_and_show_no_values(engine: sa.Engine) -> None:
    run(engine, sa.insert(TABLE), {"name": "secret-name"})
    with pytest.raises(IntegrityError) as refused:
        run(engine, sa.insert(TABLE), {"name": "secret-name"})
    with pytest.raises(IntegrityError):
        run(engine, sa.insert(TABLE), [{"name": "x"}, {"name": "secret-name"}])
    assert "secret-name" not in str(refused.value)
    with pytest.raises(OperationalError) as unknown:
        run(engine, sa.select(sa.table("nowhere", sa.column("a"))), {})
    assert isinstance(unknown.value, DBAPIError)


def test_a_statement_that_has_values_of_its_own_each_time_is_refused(engine: sa.Engine) -> None:
    table = sa.Table("others", sa.MetaData(), sa.Column("a", sa.Text, default=lambda: "made"), sa.Column("b", sa.Text))
    with pytest.raises(ValueError, match="anew"):
        Prepared(sa.insert(table), engine.dialect, ("b",))


def test_who_looks_at_the_sql_sees_all_of_it(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
        assert run(engine, sa.select(TABLE.c.name), {}) is None
    assert run(engine, sa.select(TABLE.c.name), {}) is not None


def test_what_is_not_prepared_is_not_run(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = sa.select(TABLE)
    assert not is_prepared(statement)
    monkeypatch.setattr(prepared_module, "_all", {})
    with engine.connect() as connection:
        assert PreparedStatements(engine.dialect).run(connection.connection.driver_connection, statement, {}) is None  # type: ignore[arg-type]
