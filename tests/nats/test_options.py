"""What the settings of a broker may be, and that each way to be let in is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from keywright.domain.keyformat import Secret
from keywright.nats.connection import BrokerRefused, connect
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from keywright.runtime.settings import EdgeSettings, OriginSettings, SettingsError
from support.certificates import make_certificate
from support.nats import NatsServer

NATS = "nats://127.0.0.1:4222"


def test_a_broker_is_told_by_variables_and_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "URL": "nats://a:4222", "CREDENTIALS_FILE": "/etc/nats/relay.creds", "DOMAIN": "hub", "MIRRORS": "eu, us",
        "PREFIX": "two", "REPLICAS": "3", "SNAPSHOT_CHANGES": "500", "USER": "relay", "PASSWORD": "hidden-password",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(f"KEYWRIGHT_NATS_{name}", value)
    settings = OriginSettings.load(nats="nats://b:4222,tls://c:4222")
    made = settings.broker
    assert made is not None
    assert made.servers == ("nats://b:4222", "tls://c:4222")
    assert (made.domain, made.mirrors, made.prefix, made.replicas) == ("hub", ("eu", "us"), "two", 3)
    assert (made.credentials, settings.snapshot_changes) == (Path("/etc/nats/relay.creds"), 500)
    assert "hidden-password" not in repr(settings)
    assert OriginSettings.load(nats="").broker is None


def test_an_edge_of_a_broker_needs_no_token_and_one_of_an_origin_does() -> None:
    settings = EdgeSettings.load(nats=NATS)
    assert (settings.token, settings.followed) == (None, NATS)
    with pytest.raises(SettingsError, match="KEYWRIGHT_EDGE_TOKEN"):
        EdgeSettings.load(origin="http://127.0.0.1:8080")
    with pytest.raises(SettingsError, match="follow one"):
        EdgeSettings.load(origin="http://127.0.0.1:8080", nats=NATS)


def test_every_format_is_published_until_a_setting_drops_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OriginSettings.load(nats=NATS).feed_formats == {2, 3}
    monkeypatch.setenv("KEYWRIGHT_NATS_FORMATS", "3")
    assert OriginSettings.load(nats=NATS).feed_formats == {3}


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no-url": ({"URL": "127.0.0.1:4222"}, "KEYWRIGHT_NATS_URL"),
    "another-scheme": ({"URL": "http://127.0.0.1:4222"}, "KEYWRIGHT_NATS_URL"),
    "a-password-in-the-url": ({"URL": "nats://relay:secret@127.0.0.1:4222"}, "KEYWRIGHT_NATS_USER"),
    "a-domain-that-is-no-name": ({"DOMAIN": "hub.>"}, "KEYWRIGHT_NATS_DOMAIN"),
    "a-prefix-that-is-no-name": ({"PREFIX": "a b"}, "KEYWRIGHT_NATS_PREFIX"),
    "a-mirror-that-is-no-name": ({"DOMAIN": "hub", "MIRRORS": "eu,*"}, "KEYWRIGHT_NATS_MIRRORS"),
    "mirrors-of-nothing": ({"MIRRORS": "eu"}, "KEYWRIGHT_NATS_DOMAIN"),
    "a-mirror-of-itself": ({"DOMAIN": "hub", "MIRRORS": "hub"}, "KEYWRIGHT_NATS_DOMAIN"),
    "a-certificate-without-its-key": ({"CERTIFICATE_FILE": "a.pem"}, "KEYWRIGHT_NATS_KEY_FILE"),
    "a-user-without-a-password": ({"USER": "relay"}, "KEYWRIGHT_NATS_PASSWORD"),
    "too-many-copies": ({"REPLICAS": "6"}, "KEYWRIGHT_NATS_REPLICAS"),
    "a-format-that-is-none": ({"FORMATS": "2,1"}, "KEYWRIGHT_NATS_FORMATS"),
    "no-format-at-all": ({"FORMATS": ","}, "KEYWRIGHT_NATS_FORMATS"),
}


@pytest.mark.parametrize(("variables", "named"), WRONG.values(), ids=WRONG)
def test_a_setting_that_can_not_be_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, value in {"URL": NATS, **variables}.items():
        monkeypatch.setenv(f"KEYWRIGHT_NATS_{name}", value)
    with pytest.raises(SettingsError, match=named) as caught:
        OriginSettings.load()
    assert "secret" not in str(caught.value)


async def test_tls_with_a_token_lets_in_whom_it_should_and_says_why_it_does_not(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    configuration = f'''
        listen: "0.0.0.0:4222"
        authorization {{ token: "the-token" }}
        tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key" }}
    '''
    with NatsServer(tmp_path / "nats", configuration) as server:
        url = f"tls://127.0.0.1:{server.port}"
        right = NatsOptions((url,), token=Secret("the-token"), ca_file=tmp_path / "server.pem")
        connection = await connect(right, "test", Clock())
        await connection.close()
        with pytest.raises(BrokerRefused, match="credentials"):
            await connect(replace(right, token=Secret("another-token")), "test", Clock())
        with pytest.raises(BrokerRefused, match="certificate"):
            await connect(replace(right, ca_file=None), "test", Clock())
        with pytest.raises(BrokerRefused, match=r"nowhere\.creds"):
            await connect(replace(right, token=None, credentials=tmp_path / "nowhere.creds"), "test", Clock())
