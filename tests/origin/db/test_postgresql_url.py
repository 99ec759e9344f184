"""What a database's URL may say: each parameter of libpq is taken, or refused by its name, before anything connects."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from keywright.origin.db import postgresql_url
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.runtime.server import StartError
from keywright.serve import first_start
from support import service as services
from support.ports import free_port
from support.postgres import Postgres, find_binaries

BARE = "postgresql+asyncpg://u@h/d"

OF_LIBPQ = frozenset(
    {
        "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "require_auth", "channel_binding",
        "connect_timeout", "client_encoding", "options", "application_name", "fallback_application_name",
        "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
        "replication", "gssencmode", "sslmode", "requiressl", "sslnegotiation", "sslcompression", "sslcert",
        "sslkey", "sslkeylogfile", "sslpassword", "sslcertmode", "sslrootcert", "sslcrl", "sslcrldir", "sslsni",
        "requirepeer", "ssl_min_protocol_version", "ssl_max_protocol_version", "min_protocol_version",
        "max_protocol_version", "krbsrvname", "gsslib", "gssdelegation", "scram_client_key", "scram_server_key",
        "service", "servicefile", "target_session_attrs", "load_balance_hosts", "oauth_issuer", "oauth_client_id",
        "oauth_client_secret", "oauth_scope",
    }
)  # fmt: skip
"""As its manual has them, of version 18; `requiressl` is of old URLs."""


class _Option(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")),
        ("dispsize", ctypes.c_int),
    ]


def names_of_libpq() -> set[str]:
    """What the libpq at hand says that it knows."""
    beside = sorted(Path(find_binaries().parent, "lib").glob("libpq*.so*"))
    library = ctypes.CDLL(str(beside[0]) if beside else ctypes.util.find_library("pq"))
    library.PQconndefaults.restype = ctypes.POINTER(_Option)
    options = library.PQconndefaults()
    names = set()
    index = 0
    while options[index].keyword:
        # D: for programmers only.
        if options[index].dispchar != b"D" or options[index].keyword in (b"replication",):
            names.add(options[index].keyword.decode())
        index += 1
    return names


def test_the_list_here_is_that_of_libpq() -> None:
    assert names_of_libpq() <= OF_LIBPQ | {"authtype", "tty"}


@pytest.mark.parametrize("name", sorted(OF_LIBPQ))
def test_each_parameter_is_taken_or_refused_by_its_name(name: str) -> None:
    for value in ("1", "require", "any", "a-value-of-somebody"):
        told = refusal_of(f"{name}={value}")
        assert told == "" or re.search(rf"\b{name}\b", told), told
        assert "not known" not in told
        assert "a-value-of-somebody" not in told


def refusal_of(query: str) -> str:
    """Why a URL with these parameters is refused; nothing if it is taken."""
    try:
        postgresql_url.parse(f"{BARE}?{query}")
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("channel_binding=require", "channel_binding, which may only be disable or prefer.*verify-full"),
        ("require_auth=scram-sha-256", "require_auth, which can't be had.*pg_hba"),
        ("hostaddr=10.0.0.1", "hostaddr, which can't be had: put the address"),
        ("gssencmode=require", "gssencmode"),
        ("client_encoding=LATIN1", "client_encoding, which may only be utf8"),
        ("target_session_attrs=standby", "target_session_attrs, which must be one of any, read-write, primary"),
        ("sslmode=sometimes", "sslmode, which must be one of disable"),
        ("connect_timeout=0", "connect_timeout, which must be a whole number, 1 or more"),
        ("connect_timeout=soon", "connect_timeout"),
        ("statement_cache_size=-1", "statement_cache_size, which must be a whole number"),
        ("sslrootcert=system&sslmode=require", "sslrootcert=system, for which sslmode must be verify-full"),
        ("sslrootcert=system&sslcert=a", "beside which sslcert"),
        ("sslmode=require&sslmode=disable", "the parameter sslmode more than once"),
        ("record_class=x", "not known: record_class"),
        ("dsn=postgresql://other", "not known: dsn"),
    ],
)
def test_what_can_not_be_had_is_refused_with_what_to_do(query: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^has .*{told}"):
        Database(f"{BARE}?{query}")


@pytest.mark.parametrize(
    "query",
    [
        "channel_binding=prefer", "channel_binding=disable", "gssencmode=disable", "client_encoding=UTF8",
        "sslcompression=0", "sslsni=1", "keepalives=1", "load_balance_hosts=disable", "min_protocol_version=3.0",
        "max_protocol_version=latest", "sslcertmode=allow", "replication=false", "requiressl=0", "gssdelegation=0",
    ],
)  # fmt: skip
def test_what_is_so_anyway_is_taken(query: str) -> None:
    target = postgresql_url.parse(f"{BARE}?{query}")
    assert (dict(target.arguments), target.keeps_statements) == ({}, True)


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("sslmode=verify-full", {"ssl": "verify-full"}),
        ("ssl=require", {"ssl": "require"}),
        ("connect_timeout=3", {"timeout": 3}),
        ("application_name=keys", {"server_settings": {"application_name": "keys"}}),
        ("fallback_application_name=keys", {"server_settings": {"application_name": "keys"}}),
        ("application_name=a&fallback_application_name=b", {"server_settings": {"application_name": "a"}}),
        ("options=-c%20work_mem%3D8MB", {"server_settings": {"options": "-c work_mem=8MB"}}),
        ("sslrootcert=system", {"ssl": True}),
        ("sslrootcert=/ca.pem&sslcert=/c%20d", {"dsn": "postgresql://?sslcert=%2Fc+d&sslrootcert=%2Fca.pem"}),
        ("target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("passfile=/p&service=s&servicefile=/f", {"passfile": "/p", "service": "s", "servicefile": "/f"}),
    ],
)
def test_what_is_taken_gets_to_the_driver(query: str, arguments: dict[str, object]) -> None:
    assert dict(postgresql_url.parse(f"{BARE}?{query}").arguments) == arguments


@pytest.mark.parametrize("query", ["statement_cache_size=0", "prepared_statement_cache_size=0"])
def test_without_a_cache_statements_have_no_name(query: str) -> None:
    target = postgresql_url.parse(f"{BARE}?{query}")
    name = target.arguments["prepared_statement_name_func"]
    assert (target.keeps_statements, name()) == (False, "")
    assert target.arguments["statement_cache_size"] == target.arguments["prepared_statement_cache_size"] == 0


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgresql+asyncpg://u:p@a,b/d", ["a", "b"], [5432, 5432]),
        ("postgresql+asyncpg://u:p@a:1,b:2/d?sslmode=disable", ["a", "b"], [1, 2]),
        ("postgresql+asyncpg://u:p@/d?host=a,b&port=7", ["a", "b"], [7, 7]),
        ("postgresql+asyncpg:///d?host=a&user=u&password=p&dbname=d", "a", None),
    ],
)
def test_hosts_are_taken_as_libpq_writes_them(url: str, hosts: object, ports: object) -> None:
    engine = Database(url).engine
    _, options = engine.dialect.create_connect_args(engine.url)
    assert (options["host"], options.get("port")) == (hosts, ports)
    assert (options["user"], options["password"], options["database"]) == ("u", "p", "d")


async def test_what_is_said_holds_on_a_real_connection(postgres: Postgres) -> None:
    url = postgres.new_database()
    said = "application_name=keys&options=-c%20work_mem%3D8MB&connect_timeout=5&channel_binding=prefer"
    away = url.replace("@127.0.0.1:", f"@127.0.0.1:{free_port()},127.0.0.1:")
    for address in (f"{url}?{said}", f"{away}?{said}&target_session_attrs=read-write&statement_cache_size=0"):
        database = Database(address)
        async with database.read() as tx:
            asked = "SELECT current_setting('application_name'), current_setting('work_mem')"
            assert tuple(await tx.first(sa.text(asked)) or ()) == ("keys", "8MB")
        await database.close()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "No such file"),
        ("sslmode=require", "rejected SSL upgrade"),
        ("sslnegotiation=direct", "direct TLS requires"),
        ("gsslib=gssapi&krbsrvname=x", None),
        ("ssl_min_protocol_version=TLSv9", "TLS version|rejected|protocol"),
        ("options=-c%20no_such_setting%3D1", "no_such_setting"),
    ],
)
async def test_what_the_driver_or_the_server_refuses_is_said_in_a_line(
    postgres: Postgres, tmp_path: Path, query: str, told: str | None
) -> None:
    url = f"{postgres.new_database()}?{query}"
    settings = services.settings_for(tmp_path / "data", url)
    if told is None:
        await first_start.prepare(settings)
        return
    with pytest.raises(StartError, match=rf"^can't use the database in [^\n]*({told})[^\n]*$"):
        await first_start.prepare(settings)
    database = Database(url)
    with pytest.raises(DatabaseUnavailable):
        async with database.read():
            pass
    await database.close()
