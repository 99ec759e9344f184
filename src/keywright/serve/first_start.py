"""Owns a deployment's start: data directory, key files, migrations, the first account; and says what is wrong."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from keywright import __version__
from keywright.domain.keyformat import Digester, Secret
from keywright.domain.models import Environment
from keywright.domain.names import ACCOUNT_NAME
from keywright.domain.text import is_whole
from keywright.origin.db import migrations, server_check
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.migrations import NewerSchema
from keywright.origin.db.server_check import Unsuitable
from keywright.origin.db.tables import SCHEMA_VERSION
from keywright.origin.db.transaction import Database
from keywright.origin.deployment import rules
from keywright.origin.deployment.rules import Bootstrap, WrongMasterKey, WrongPepper
from keywright.origin.keys.vault import KEY_BYTES, MasterKeyMissing, SealBroken, Vault
from keywright.origin.pipeline.unit_of_work import Dependencies, Limits
from keywright.runtime.server import StartError
from keywright.runtime.settings import OriginSettings
from keywright.serve import deployment_id, key_files
from keywright.serve.key_files import KeyFileError

DEFAULT_URL = "http://127.0.0.1:8080"
"""Where the command line looks for an origin by itself."""
BOOTSTRAP_KEY_LENGTH = 32
"""Of what somebody made up, this much can't be guessed; of a first start only, since older ones had less."""
NO_DEPLOYMENT = "there is no deployment here yet; `keywright serve` makes one"


@dataclass(frozen=True, slots=True)
class Started:
    """What `prepare` found or made. `bootstrap` is None but for the first start."""

    deployment_id: str
    bootstrap: Bootstrap | None
    notes: tuple[str, ...] = ()


async def prepare(settings: OriginSettings, *, is_new_deployment: bool = False) -> Started:
    """Everything that must be there before the first request. Raises StartError.

    `is_new_deployment`: the record may be another one than this machine had, or empty.
    """
    account = settings.bootstrap_account
    if account is not None and not is_whole(ACCOUNT_NAME, account):
        raise StartError("KEYWRIGHT_BOOTSTRAP_ACCOUNT must be 1 to 128 of a-z, 0-9, _ and -")
    key = settings.bootstrap_key
    async with _reaching(settings) as database:
        # First of all: what is refused leaves no trace.
        said = await server_check.check(database)
        held = await deployment_id.check(database, settings, is_start=True, is_new=is_new_deployment)
        if held is None and key is not None and len(key.reveal()) < BOOTSTRAP_KEY_LENGTH:
            raise StartError(f"KEYWRIGHT_BOOTSTRAP_KEY must have {BOOTSTRAP_KEY_LENGTH} characters or more")
        _make_data_dir(settings)
        async with key_files.alone_in(settings.data_dir):
            await migrations.upgrade(database, issuer=settings.end_users.oidc_issuer)
            if await rules.find_id(database) is None:
                key_files.make_missing(settings)
            dependencies = make_dependencies(settings)
            made = await rules.bootstrap(database, dependencies, account_name=account, root_key=key)
            await check_keys(database, settings, dependencies.digester)
            notes = said
            if made is None and key is not None:
                is_known = await rules.is_known_root(database, dependencies.digester, key)
                notes += _notes_on(key, is_known=is_known)
            id = await rules.find_id(database)
            if id is None:
                raise StartError("the database lost its deployment while this process started")
            deployment_id.mark(settings, id)
            return Started(id, made, notes)


def _notes_on(key: Secret, *, is_known: bool) -> tuple[str, ...]:
    """What is to be said of a bootstrap key at a later start, where it stands in a manifest still."""
    if not is_known:
        return ("KEYWRIGHT_BOOTSTRAP_KEY is not a key of this deployment: it counts at the first start only.",)
    if len(key.reveal()) < BOOTSTRAP_KEY_LENGTH:
        short = f"KEYWRIGHT_BOOTSTRAP_KEY has fewer than {BOOTSTRAP_KEY_LENGTH} characters and can be guessed"
        return (f"{short}: make another root key (`keywright root-key create`), and revoke it.",)
    return ()


async def migrate(settings: OriginSettings) -> str:
    """Brings the database to this version's shape; what was done, in a sentence. Raises StartError."""
    async with _open(settings) as database:
        before = await migrations.get_version(database)
        is_changed = await migrations.upgrade(database, issuer=settings.end_users.oidc_issuer)
        after = await migrations.get_version(database)
        if not is_changed:
            return f"The database is up to date (schema {after})."
        return f"The database was migrated from schema {before or 'none'} to {after}."


async def rotate_master_key(settings: OriginSettings, *, discard_old: bool) -> str:
    """Makes a new master key the active one and seals every data key under it. Raises StartError.

    A master key that is given as a variable is yours to change: put the new one in front, and this seals under it.
    """
    async with _open(settings) as database:
        if await rules.find_id(database) is None:
            raise StartError(NO_DEPLOYMENT)
        dependencies = make_dependencies(settings)
        ring = key_files.load_ring(settings)
        await check_keys(database, settings, dependencies.digester)
        if settings.master_key is None:
            ring = ring.with_active(secrets.token_bytes(KEY_BYTES))
            key_files.store_ring(settings, ring)
            dependencies.vault.reload()
        count = await rules.reseal(database, dependencies, ring.active_id)
        said = f"{count} data key{'' if count == 1 else 's'} sealed under the new master key {ring.active_id}."
        if not discard_old:
            return f"{said} The old one stays in the ring: backups made before now need it."
        if settings.master_key is not None:
            return f"{said} KEYWRIGHT_MASTER_KEY may now hold that key alone."
        active = ring.only({ring.active_id})
        await rules.when_only_needed(
            database, dependencies, ring.active_id, lambda: key_files.store_ring(settings, active)
        )
        return f"{said} The old ones are discarded: backups made before now can't show their keys."


@asynccontextmanager
async def reading(settings: OriginSettings) -> AsyncIterator[Database]:
    """The database of this version's shape, for a command that changes nothing, beside everything else.

    Raises StartError.
    """
    async with _reaching(settings) as database:
        await server_check.check(database)
        if await deployment_id.check(database, settings) is None:
            raise StartError(NO_DEPLOYMENT)
        version = await migrations.get_version(database) or ""
        if version > SCHEMA_VERSION:
            raise NewerSchema(version)
        if version < SCHEMA_VERSION:
            raise StartError(f"the database has schema {version}, of an older Keywright: run `keywright migrate`")
        yield database


def make_dependencies(settings: OriginSettings) -> Dependencies:
    """What the rules need of this machine. Raises StartError."""
    try:
        digester = key_files.load_digester(settings)
        vault = Vault(lambda: key_files.load_ring(settings), secrets.token_bytes)
    except KeyFileError as error:
        raise StartError(f"{error}; restore it from your backup: this deployment was made with it") from None
    limits = Limits(
        metadata_bytes=settings.max_metadata_bytes,
        identity_bytes=settings.max_identity_bytes,
        tags=settings.max_tags,
        session_idle=timedelta(minutes=settings.session_idle_minutes),
        session_life=timedelta(minutes=settings.session_minutes),
        usage_hours_days=settings.usage_hours_days,
        usage_days_kept=settings.usage_days_kept,
        ignores_unknown_members=settings.unknown_members == "ignore",
    )
    issuer = settings.end_users.oidc_issuer
    made = Dependencies(vault, digester, secrets.token_bytes, lambda: datetime.now(UTC), limits, issuer)
    return replace(made, key_prefix=settings.key_prefix)


async def check_keys(database: Database, settings: OriginSettings, digester: Digester) -> None:
    """That this machine has the secrets that the record was made with. Raises StartError."""
    try:
        await rules.check_keys(database, digester, key_files.load_ring(settings))
    except WrongPepper:
        message = "the pepper is not the one that this deployment was made with; no key would be known. Restore"
        raise StartError(f"{message} {settings.pepper_file} or KEYWRIGHT_PEPPER") from None
    except WrongMasterKey as error:
        message = f"the master key {error} is missing; kept keys could not be shown. Restore"
        raise StartError(f"{message} {settings.master_key_file} or KEYWRIGHT_MASTER_KEY") from None


def banner(settings: OriginSettings, started: Started) -> str:
    """What `serve` prints: where it is, and at the first start, once, the key and the first call to try."""
    url = settings.url
    lines = [f"Keywright {__version__} on {url}  (reference: {url}/docs)"]
    lines += [f"Admin portal: {url}/admin", f"Developer portals: {url}/portal/BUCKET", f"Data: {settings.data_dir}"]
    lines += [f"Deployment: {started.deployment_id}"]
    lines += [f"Root key lost or leaked: keywright root-key create --data-dir {settings.data_dir}"]
    lines += [f"Note: {note}" for note in started.notes]
    made = started.bootstrap
    if made is not None:
        bucket = made.project.environments[Environment.PRODUCTION]
        # A key that was given is known to whoever gave it, and has no business in a log.
        shown = "$KEYWRIGHT_BOOTSTRAP_KEY" if settings.bootstrap_key else made.root_key.reveal()
        lines += [
            "",
            f"This is the first start: account {made.account_name!r}, project {made.project.name!r},",
            "and a management key with every right, which is shown only now. Keep it safe:",
            "",
            f"    export API_KEY={shown}",
            f"    export BUCKET_NAME={bucket}",
            "",
            "For the command line, the same under the names that it reads:",
            "",
            "    export KEYWRIGHT_MANAGEMENT_KEY=$API_KEY KEYWRIGHT_BUCKET=$BUCKET_NAME",
            *([f"    export KEYWRIGHT_URL={url}"] if url != DEFAULT_URL else []),
            "",
            "Create the first consumer:",
            "",
            '    curl -H "Content-type: application/json" -H "Authorization: Bearer $API_KEY" \\',
            """      -d '{ "metadata": { "testId": "1234" }, "name": "my-consumer" }' \\""",
            f"      {url}/v1/accounts/{made.account_name}/key-buckets/$BUCKET_NAME/consumers",
            "",
        ]
    return "\n".join(lines)


@asynccontextmanager
async def _open(settings: OriginSettings) -> AsyncIterator[Database]:
    """The database, for one process at a time that may change more than rows; makes no directory and no file."""
    async with _reaching(settings) as database:
        await server_check.check(database)
        await deployment_id.check(database, settings)
        if deployment_id.is_without_file(settings):
            raise StartError(NO_DEPLOYMENT)
        directory = _lock_directory(settings)
        async with nullcontext() if directory is None else key_files.alone_in(directory):
            yield database


def _lock_directory(settings: OriginSettings) -> Path | None:
    """The data directory; where there is none, that of the master key; where there is none of it either, no file."""
    for path in (settings.data_dir, settings.master_key_file.parent):
        if path.is_dir():
            return path
    return None


def _make_data_dir(settings: OriginSettings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"can't use the data directory {settings.data_dir}: {_reason(error)}") from None


@asynccontextmanager
async def _reaching(settings: OriginSettings) -> AsyncIterator[Database]:
    """The database, with everything that can go wrong on the way said in one line."""
    try:
        database = Database(settings.database_url)
    except ValueError as error:
        raise StartError(f"KEYWRIGHT_DATABASE_URL {error}") from None
    place = str(settings.data_dir) if settings.is_sqlite else _without_password(database)
    try:
        yield database
    except NewerSchema as error:
        message = f"the database has schema {error}, of a newer Keywright than this ({__version__}): upgrade Keywright"
        raise StartError(message) from None
    except (Unsuitable, DatabaseUnavailable, SQLAlchemyError, OSError) as error:
        raise StartError(f"can't use the database in {place}: {_reason(error)}") from None
    except (MasterKeyMissing, SealBroken, KeyFileError) as error:
        raise StartError(f"the master key does not fit this deployment: {error}") from None
    finally:
        await database.close()


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _without_password(database: Database) -> str:
    url = database.engine.url
    several = url.query.get("host")
    if several is not None:
        return f"{several if isinstance(several, str) else ','.join(several)}/{url.database or ''}"
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"
