"""Owns what a PostgreSQL database's URL may say: each parameter that libpq knows is taken, or refused by its name.

What is taken is handed to asyncpg under asyncpg's names. A few of asyncpg's own parameters are taken, too. No value is
repeated in an error: it could be a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

DEFAULT_PORT = 5432
_MANY_HOSTS = re.compile(r"(?P<before>[^:/?#]+://(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """Where to connect and how: `url` has no parameters but those of SQLAlchemy, `arguments` are asyncpg's."""

    url: sa.URL
    arguments: Mapping[str, Any]
    keeps_statements: bool
    """Whether statements may be prepared in one transaction and used in another."""


def parse(text: str) -> PostgresTarget:
    """Raises ValueError, whose message follows the name of the setting."""
    try:
        url = sa.make_url(_with_hosts_aside(text))
    except (ArgumentError, ValueError):
        raise ValueError("is not a URL, such as postgresql://user@host:5432/database") from None
    said: dict[str, str] = {}
    hosts: dict[str, tuple[str, ...] | str] = {}
    for name, value in url.query.items():
        if name in ("host", "port"):
            hosts[name] = value
        elif isinstance(value, str):
            said[name] = value
        else:
            raise ValueError(f"has the parameter {name} more than once")
    url = url.set(
        query=_with_ports(hosts),
        username=said.pop("user", url.username),
        password=said.pop("password", url.password),
        database=said.pop("dbname", url.database),
    )
    arguments: dict[str, Any] = {}
    for name, value in sorted(said.items()):
        _take(name, value, arguments)
    fallback = arguments.pop("fallback_application_name", None)
    if fallback is not None:
        arguments["server_settings"] = {"application_name": fallback, **arguments.get("server_settings", {})}
    return PostgresTarget(url, *_finished(arguments))


def _take(name: str, value: str, arguments: dict[str, Any]) -> None:
    if name in _FIXED:
        allowed, reason = _FIXED[name]
        if value.lower() not in allowed:
            alternatives = f" may only be {' or '.join(allowed)}" if allowed else " can't be had"
            raise ValueError(f"has {name}, which{alternatives}: {reason}")
    elif name in _REFUSED:
        raise ValueError(f"has {name}, which can't be had: {_REFUSED[name]}")
    elif name in _TLS:
        arguments.setdefault("dsn", {})[name] = value
    elif name in _SERVER_SETTINGS:
        arguments.setdefault("server_settings", {})[name] = value
    elif name in _TAKEN:
        _TAKEN[name](name, value, arguments)
    else:
        raise ValueError(f"has a parameter that is not known: {name}")


def _finished(arguments: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The arguments of asyncpg, and whether statements are kept."""
    tls: dict[str, str] = arguments.pop("dsn", {})
    if tls.get("sslrootcert") == "system":
        # As libpq has it: who trusts everybody's authorities must look at the name.
        if arguments.get("ssl", "verify-full") != "verify-full":
            raise ValueError("has sslrootcert=system, for which sslmode must be verify-full")
        others = sorted(set(tls) - {"sslrootcert"})
        if others:
            raise ValueError(f"has sslrootcert=system, beside which {others[0]} can't be had")
        arguments["ssl"], tls = True, {}
    if tls:
        arguments["dsn"] = f"postgresql://?{urlencode(tls)}"
    sizes = [arguments.get(name) for name in ("statement_cache_size", "prepared_statement_cache_size")]
    keeps_statements = 0 not in sizes
    if not keeps_statements:
        arguments["statement_cache_size"] = arguments["prepared_statement_cache_size"] = 0
        # Without a name a statement is gone with the next one: nothing of it is left at the server.
        arguments["prepared_statement_name_func"] = lambda: ""
    return arguments, keeps_statements


def _with_hosts_aside(text: str) -> str:
    """libpq's `host:1,host:2` in the form that SQLAlchemy has for it."""
    found = _MANY_HOSTS.fullmatch(text)
    if found is None:
        return text
    path, question, query = found["rest"].partition("?")
    pairs = [_host_and_port(one) for one in found["hosts"].split(",")]
    # As SQLAlchemy splits them again: each with its port.
    placed = "&".join(urlencode({"host": f"{host}:{port or DEFAULT_PORT}"}) for host, port in pairs)
    return f"{found['before']}{path}?{placed}{'&' + query if question and query else ''}"


def _host_and_port(text: str) -> tuple[str, str]:
    host, separator, port = text.rpartition(":")
    return (host, port) if separator and (port.isdigit() or not port) else (text, "")


def _with_ports(query: Mapping[str, tuple[str, ...] | str]) -> dict[str, tuple[str, ...] | str]:
    """Several hosts need as many ports, which libpq does without."""
    hosts, ports = query.get("host"), query.get("port")
    if isinstance(hosts, str) and "," in hosts:
        count = hosts.count(",") + 1
        given = str(ports or DEFAULT_PORT).split(",")
        return {"host": hosts, "port": ",".join(given * count if len(given) == 1 else given)}
    return dict(query)


def _choice(own_name: str, *allowed: str) -> Callable[[str, str, dict[str, Any]], None]:
    def take(name: str, value: str, arguments: dict[str, Any]) -> None:
        if value not in allowed:
            raise ValueError(f"has {name}, which must be one of {', '.join(allowed)}")
        arguments[own_name] = value

    return take


def _count(own_name: str, *, least: int = 0) -> Callable[[str, str, dict[str, Any]], None]:
    def take(name: str, value: str, arguments: dict[str, Any]) -> None:
        if not (value.isascii() and value.isdigit()) or len(value) > 9 or int(value) < least:
            raise ValueError(f"has {name}, which must be a whole number, {least} or more")
        arguments[own_name] = int(value)

    return take


def _text(own_name: str) -> Callable[[str, str, dict[str, Any]], None]:
    def take(name: str, value: str, arguments: dict[str, Any]) -> None:
        arguments[own_name] = value

    return take


_SSL_MODE = _choice("ssl", "disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_TAKEN: Mapping[str, Callable[[str, str, dict[str, Any]], None]] = {
    "sslmode": _SSL_MODE,
    "ssl": _SSL_MODE,
    "connect_timeout": _count("timeout", least=1),
    "timeout": _count("timeout", least=1),
    "command_timeout": _count("command_timeout", least=1),
    "target_session_attrs": _choice("target_session_attrs", "any", "read-write", "primary"),
    "passfile": _text("passfile"),
    "service": _text("service"),
    "servicefile": _text("servicefile"),
    "krbsrvname": _text("krbsrvname"),
    "gsslib": _choice("gsslib", "gssapi", "sspi"),
    "fallback_application_name": _text("fallback_application_name"),
    "statement_cache_size": _count("statement_cache_size"),
    "prepared_statement_cache_size": _count("prepared_statement_cache_size"),
    "max_cached_statement_lifetime": _count("max_cached_statement_lifetime"),
    "max_cacheable_statement_size": _count("max_cacheable_statement_size"),
}
_TLS = frozenset(
    {
        "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation",
        "ssl_min_protocol_version", "ssl_max_protocol_version",
    }
)  # fmt: skip
"""What asyncpg takes in a URL only."""
_SERVER_SETTINGS = frozenset({"application_name", "options"})
_FIXED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "channel_binding": (
        ("disable", "prefer"),
        "the driver does not bind the sign-in to the TLS channel. sslmode=verify-full makes sure who answers",
    ),
    "client_encoding": (("utf8", "utf-8", "auto"), "all text is UTF-8"),
    "gssencmode": (("disable", "prefer"), "the driver encrypts with TLS only"),
    "gssdelegation": (("0",), "the driver delegates no credentials"),
    "keepalives": (("1",), "connections are kept alive as the kernel's net.ipv4.tcp_keepalive_* say"),
    "load_balance_hosts": (("disable",), "the hosts are tried in order"),
    "max_protocol_version": (("3.0", "3.2", "latest"), "there is no other"),
    "min_protocol_version": (("3.0",), "the driver speaks version 3.0"),
    "replication": (("false", "off", "no", "0"), "this is no standby"),
    "requiressl": (("0",), "libpq has it no more. Use sslmode=require"),
    "sslcertmode": (("allow",), "a certificate is sent where the server asks and sslcert names one"),
    "sslcompression": (("0",), "TLS compresses nothing"),
    "sslsni": (("1",), "the host's name is always sent"),
}
"""Parameters that may say only what is so anyway."""
_KERNEL = "connections are kept alive as the kernel's net.ipv4.tcp_* settings say"
_REFUSED: Mapping[str, str] = {
    "hostaddr": "put the address in the place of the host",
    "keepalives_idle": _KERNEL,
    "keepalives_interval": _KERNEL,
    "keepalives_count": _KERNEL,
    "tcp_user_timeout": _KERNEL,
    "oauth_issuer": "the driver knows no OAuth",
    "oauth_client_id": "the driver knows no OAuth",
    "oauth_client_secret": "the driver knows no OAuth",
    "oauth_scope": "the driver knows no OAuth",
    "require_auth": "the driver takes the method that the server asks for. Say it in the server's pg_hba.conf",
    "requirepeer": "the driver does not ask whose the socket is",
    "scram_client_key": "the driver signs in with the password",
    "scram_server_key": "the driver signs in with the password",
    "sslcrldir": "name one file, with sslcrl",
    "sslkeylogfile": "the driver takes it from the variable SSLKEYLOGFILE only",
}
