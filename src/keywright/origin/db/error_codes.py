"""Owns what the databases' error codes mean to whoever asked: PostgreSQL's (SQLSTATE) and SQLite's, in one table each.

What is in no row is a bug of ours. How the failure is raised is in engine.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Meaning(StrEnum):
    """What a refusal of the database is to the caller."""

    LATER = "later"
    """Nothing was changed, and the same request may well succeed after a while."""
    DISK_FULL = "disk full"
    """As that, once somebody has made room."""
    DISK_FAILED = "disk failed"
    """As that; it may be full."""
    UNIQUE = "unique"
    """There is such a row already."""
    MISSING_REFERENCE = "missing reference"
    """The row that is referred to is gone."""


POSTGRESQL: Mapping[str, Meaning] = {
    "08": Meaning.LATER,  # The connection broke, or could not be made.
    "23503": Meaning.MISSING_REFERENCE,
    "23505": Meaning.UNIQUE,
    "25006": Meaning.LATER,  # Takes no writes: a standby, or a primary no more.
    "25P03": Meaning.LATER,  # idle_in_transaction_session_timeout; it is not of class 57.
    "25P04": Meaning.LATER,  # transaction_timeout, from PostgreSQL 17 on; likewise.
    "26000": Meaning.LATER,  # A pooler that lost a prepared statement: server_check.py.
    "40": Meaning.LATER,  # Rolled back: deadlock, conflict of snapshots, recovery of a standby.
    "42P05": Meaning.LATER,  # As 26000, the other way round.
    "53100": Meaning.DISK_FULL,
    "53": Meaning.LATER,  # Memory, connections, limits.
    "55000": Meaning.LATER,  # The database takes no connections now, or is in recovery.
    "55006": Meaning.LATER,  # In use by somebody's maintenance.
    "55P03": Meaning.LATER,  # lock_timeout.
    "57": Meaning.LATER,  # statement_timeout, an operator, a server that starts or stops.
    "58030": Meaning.DISK_FAILED,
    "58": Meaning.LATER,  # What is beneath PostgreSQL failed.
    "72000": Meaning.LATER,  # old_snapshot_threshold, to PostgreSQL 16.
}
"""By the code of five characters, or by the class that its first two are; the code goes first."""
SQLITE: Mapping[str, Meaning] = {
    "SQLITE_BUSY": Meaning.LATER,
    "SQLITE_CANTOPEN": Meaning.LATER,
    "SQLITE_CONSTRAINT_FOREIGNKEY": Meaning.MISSING_REFERENCE,
    "SQLITE_CONSTRAINT_PRIMARYKEY": Meaning.UNIQUE,
    "SQLITE_CONSTRAINT_UNIQUE": Meaning.UNIQUE,
    "SQLITE_FULL": Meaning.DISK_FULL,
    "SQLITE_IOERR": Meaning.DISK_FAILED,
    "SQLITE_LOCKED": Meaning.LATER,
    "SQLITE_READONLY": Meaning.LATER,
}
"""By the extended name, or by the name that it begins with: `SQLITE_IOERR` is for `SQLITE_IOERR_WRITE`, too."""


def find_meaning(error: object) -> Meaning | None:
    """What the error of a driver means; None for a bug."""
    state, name = getattr(error, "sqlstate", None), getattr(error, "sqlite_errorname", None)
    if state == "58030" and "No space left" in str(error):
        # What is no extended file may come as that, with the system's words.
        return Meaning.DISK_FULL
    if isinstance(state, str):
        return POSTGRESQL.get(state) or POSTGRESQL.get(state[:2])
    if isinstance(name, str):
        return SQLITE.get(name) or SQLITE.get("_".join(name.split("_")[:2]))
    return None
