"""Settings of end users: what can't be safe is refused at the start, by name and without its secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywright.domain.roles import Role
from keywright.runtime.settings import EndUserSettings, OriginSettings, SettingsError

OIDC = {"KEYWRIGHT_OIDC_ISSUER": "https://id.example.com", "KEYWRIGHT_OIDC_CLIENT_ID": "keywright"}


def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]) -> EndUserSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return OriginSettings.load(data_dir=tmp_path, port=9000).end_users


def test_nothing_configured_means_links_on_the_console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load(monkeypatch, tmp_path, {})
    assert (settings.oidc_issuer, settings.smtp_url, settings.cors_origins) == (None, None, ())
    assert settings.public_url == "http://127.0.0.1:9000"
    assert settings.mail_from == "keywright@127.0.0.1"


def test_mail_comes_from_a_host_that_mail_can_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load(monkeypatch, tmp_path, {"KEYWRIGHT_PUBLIC_URL": "http://[::1]:9000"})
    assert settings.mail_from == "keywright@localhost"


def test_everything_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load(
        monkeypatch,
        tmp_path,
        {
            **OIDC,
            "KEYWRIGHT_OIDC_AUDIENCE": "https://a.example.com, https://b.example.com",
            "KEYWRIGHT_ADMIN_ROLES": "ada@example.com=admin, partner:bo@example.com=viewer",
            "KEYWRIGHT_CORS_ORIGINS": "https://app.example.com,http://[::1]:3000",
            "KEYWRIGHT_PUBLIC_URL": "https://keys.example.com/",
            "KEYWRIGHT_SMTP_URL": "smtps://me:hunter2@smtp.example.com:465",
        },
    )
    assert settings.oidc_audiences == ("https://a.example.com", "https://b.example.com")
    assert settings.admin_roles == {
        "ada@example.com": {None: Role.ADMIN},
        "bo@example.com": {"partner": Role.VIEWER},
    }
    assert settings.cors_origins == ("https://app.example.com", "http://[::1]:3000")
    assert settings.public_url == "https://keys.example.com"
    assert settings.mail_from == "keywright@keys.example.com"
    assert "hunter2" not in repr(settings)


def test_the_audience_is_the_client_where_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load(monkeypatch, tmp_path, OIDC).oidc_audiences == ("keywright",)


def test_no_audience_is_asked_for_where_it_is_empty_by_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load(monkeypatch, tmp_path, {**OIDC, "KEYWRIGHT_OIDC_AUDIENCE": ""}).oidc_audiences is None


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"KEYWRIGHT_OIDC_ISSUER": "https://id.example.com"}, "KEYWRIGHT_OIDC_AUDIENCE"),
        ({**OIDC, "KEYWRIGHT_OIDC_ISSUER": "http://id.example.com"}, "KEYWRIGHT_OIDC_ISSUER"),
        ({**OIDC, "KEYWRIGHT_OIDC_ISSUER": "https://me:secret@id.example.com"}, "KEYWRIGHT_OIDC_ISSUER"),
        ({**OIDC, "KEYWRIGHT_OIDC_ISSUER": "id.example.com"}, "KEYWRIGHT_OIDC_ISSUER"),
        ({"KEYWRIGHT_CORS_ORIGINS": "app.example.com"}, "KEYWRIGHT_CORS_ORIGINS"),
        ({"KEYWRIGHT_CORS_ORIGINS": "https://app.example.com/"}, "KEYWRIGHT_CORS_ORIGINS"),
        ({"KEYWRIGHT_CORS_ORIGINS": "null"}, "KEYWRIGHT_CORS_ORIGINS"),
        ({"KEYWRIGHT_SMTP_URL": "smtp://127.0.0.1"}, "KEYWRIGHT_PUBLIC_URL"),
        ({"KEYWRIGHT_SMTP_URL": "http://secret@x", "KEYWRIGHT_PUBLIC_URL": "https://k.example"}, "KEYWRIGHT_SMTP_URL"),
        ({"KEYWRIGHT_SMTP_URL": "smtp://a:secret", "KEYWRIGHT_PUBLIC_URL": "https://k.example"}, "KEYWRIGHT_SMTP_URL"),
        ({"KEYWRIGHT_PUBLIC_URL": "keys.example.com"}, "KEYWRIGHT_PUBLIC_URL"),
        ({"KEYWRIGHT_PUBLIC_URL": "https://keys.example.com/path"}, "KEYWRIGHT_PUBLIC_URL"),
        ({"KEYWRIGHT_MAIL_FROM": "Keys <keys@example.com>"}, "KEYWRIGHT_MAIL_FROM"),
        ({"KEYWRIGHT_MAIL_FROM": "keys(1)@example.com"}, "KEYWRIGHT_MAIL_FROM"),
        ({**OIDC, "KEYWRIGHT_ADMIN_ROLES": "ada@example.com=owner"}, "KEYWRIGHT_ADMIN_ROLES"),
        ({"KEYWRIGHT_ADMIN_ROLES": "ada@example.com=admin"}, "KEYWRIGHT_OIDC_ISSUER and KEYWRIGHT_OIDC_CLIENT_ID"),
        ({"KEYWRIGHT_SELF_SERVE_RATE_LIMIT": "-1"}, "KEYWRIGHT_SELF_SERVE_RATE_LIMIT"),
    ],
    ids=str,
)
def test_what_can_not_be_safe_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], name: str
) -> None:
    with pytest.raises(SettingsError, match=name) as error:
        load(monkeypatch, tmp_path, variables)
    assert "secret" not in str(error.value)
