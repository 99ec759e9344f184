"""Fake keys: what they let through, what they record, and that they leave no trace."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keywright.policy.asgi import ApiKeyPolicy
from keywright.policy.shared import SharedReplica
from keywright.policy.testing import fake_keys
from policy.keys import BEARER, GOLD, Keys
from policy.test_asgi import Probe, ask


def _bearer(key: str) -> Any:
    return [(b"authorization", f"Bearer {key}".encode())]


async def test_every_policy_asks_the_fake_keys_however_it_was_made() -> None:
    def configured() -> Any:
        return SharedReplica(os.environ["NOT_SET_IN_TESTS"])

    probe, keys = Probe(), Keys()
    before = [ApiKeyPolicy(probe, source, bucket_name="my-bucket") for source in (keys, configured)]
    with fake_keys() as fakes:
        policies = [*before, ApiKeyPolicy(probe, configured, bucket_name="my-bucket")]
        for policy in policies:
            shown = _bearer(fakes.valid("acme", {"plan": "gold"}))
            assert (await ask(policy, headers=shown)).status == 200
            assert (probe.user.sub, probe.user.data) == ("acme", {"plan": "gold"})
            assert (await ask(policy, headers=BEARER)).status == 401
    assert (await ask(before[0], headers=shown)).status == 401
    assert (await ask(before[0], headers=BEARER)).status == 200
    assert keys.steps == ["open"]


async def test_each_kind_of_key_is_judged_and_recorded() -> None:
    probe = Probe()
    policy = ApiKeyPolicy(probe, Keys(), bucket_name="my-bucket")
    with fake_keys() as keys:
        expires_at = datetime(2030, 1, 1, tzinfo=UTC)
        rows = [
            (keys.valid(expires_at=expires_at), 200, "VALID"),
            (keys.valid(key="my-own-key", bucket="my-bucket"), 200, "VALID"),
            (keys.valid(bucket="other"), 401, "UNKNOWN"),
            (keys.expired(), 401, "EXPIRED"),
            (keys.unknown(), 401, "UNKNOWN"),
            ("zpka_0000", 401, "UNKNOWN"),
            ("short", 401, "MALFORMED"),
        ]
        assert [(await ask(policy, headers=_bearer(key))).status for key, _, _ in rows] == [row[1] for row in rows]
        assert [asked[:2] for asked in keys.asked] == [(key, "my-bucket") for key, _, _ in rows]
        assert [asked.verdict for asked in keys.asked] == [row[2] for row in rows]
        assert probe.scopes[0]["auth"].expires_at == expires_at
        keys.delete(rows[0][0])
        assert (await ask(policy, headers=_bearer(rows[0][0]))).status == 401
        keys.is_available = False
        assert (await ask(policy, headers=_bearer(rows[1][0]))).status == 503
        with pytest.raises(ValueError, match="printable"):
            keys.valid(key="no key")


async def test_fake_keys_within_fake_keys_give_way_to_those_around_them() -> None:
    policy = ApiKeyPolicy(Probe(), Keys(), bucket_name="my-bucket")
    with fake_keys() as outer:
        key = outer.valid()
        with contextlib.suppress(ZeroDivisionError), fake_keys():
            assert (await ask(policy, headers=_bearer(key))).status == 401
            raise ZeroDivisionError
        assert (await ask(policy, headers=_bearer(key))).status == 200
    assert (await ask(policy, headers=_bearer(GOLD))).status == 200


def test_pytest_finds_the_fixture_where_keywright_is_installed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_light():\n    assert 'keywright.policy.testing.pytest_plugin' in sys.modules\n"
        "    assert not {'lmdb', 'keywright.policy.rules.gate'} & set(sys.modules)\n"
        "def test_keys(keywright_keys):\n    assert keywright_keys.asked == []\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
