"""Owns the settings of the command line as a client of the Developer API, and the variables of gateways and tests."""

from __future__ import annotations

from keywright.domain.keyformat import Secret
from keywright.runtime.settings.kinds import SECRET, TEXT, OldName, Part, Setting

_CLI = frozenset({Part.CLI})
_TESTS = frozenset({Part.TESTS})

URL = Setting(
    name="KEYWRIGHT_URL",
    flag="--url",
    kind=TEXT,
    default="http://127.0.0.1:8080",
    shown_default="`http://127.0.0.1:8080`",
    help="address of the origin",
    parts=_CLI,
)
MANAGEMENT_KEY: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_MANAGEMENT_KEY",
    kind=SECRET,
    default=None,
    help="the management key that commands act with",
    old_names=(OldName("KEYWRIGHT_API_KEY"),),
    parts=_CLI,
)
ACCOUNT: Setting[str | None] = Setting(
    name="KEYWRIGHT_ACCOUNT",
    flag="--account",
    kind=TEXT,
    default=None,
    shown_default="that of the management key",
    help="account to act in",
    parts=_CLI,
)
BUCKET: Setting[str | None] = Setting(
    name="KEYWRIGHT_BUCKET", flag="--bucket", kind=TEXT, default=None, help="bucket of the consumer", parts=_CLI
)

# In gateways/, for their own configurations.
VALIDATION_TOKEN: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_VALIDATION_TOKEN",
    kind=SECRET,
    default=None,
    help="the management key that a gateway shows in `Keywright-Token`",
    parts=frozenset({Part.GATEWAY}),
)

TEST_SEED = Setting(
    name="KEYWRIGHT_TEST_SEED", kind=TEXT, default="", help="the seed of the faults that are played", parts=_TESTS
)
TEST_KILLS = Setting(
    name="KEYWRIGHT_TEST_KILLS", kind=TEXT, default="", help="how often a service is killed", parts=_TESTS
)
TEST_CHROMIUM = Setting(name="KEYWRIGHT_TEST_CHROMIUM", kind=TEXT, default="", help="where Chromium is", parts=_TESTS)
TEST_PROGRESS = Setting(
    name="KEYWRIGHT_TEST_PROGRESS", kind=TEXT, default="", help="where a run notes its progress", parts=_TESTS
)
TEST_POSTGRES_BIN = Setting(
    name="KEYWRIGHT_TEST_POSTGRES_BIN", kind=TEXT, default="", help="where PostgreSQL's programs are", parts=_TESTS
)
