"""A setting is read from its flag, its variable, or its old name; what can't be is refused by name, not by value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keywright.runtime.settings import EdgeSettings, OriginSettings, SettingsError, common, edge, origin, other_parts
from keywright.runtime.settings.kinds import Setting
from keywright.runtime.settings.reader import Reader

WRONG: dict[str, tuple[Setting[Any], str, str]] = {
    "a-number-out-of-bounds": (common.PORT, "70000", "must be a whole number from 1 to 65535, not '70000'"),
    "no-number": (common.WORKERS, "many", "must be a whole number from 1 to 256"),
    "digits-of-another-script": (common.WORKERS, "\N{ARABIC-INDIC DIGIT FOUR}", "must be a whole number"),
    "an-underscore-in-a-number": (common.PORT, "8_080", "must be a whole number"),
    "a-word-for-a-switch": (common.VALIDATION_TOKEN_REQUIRED, "on", "must be one of true, false, 1, 0, yes, no"),
    "a-level-that-is-none": (common.LOG_LEVEL, "verbose", "must be one of debug, info, warning, error"),
    "too-long-a-time": (common.MIN_REVISION_TIMEOUT_SECONDS, "10.5", "must be a number from 0 to 10, not '10.5'"),
    "milliseconds-under-the-new-name": (common.MIN_REVISION_TIMEOUT_SECONDS, "500", "must be a number from 0 to 10"),
    "a-number-that-is-none": (common.MIN_REVISION_TIMEOUT_SECONDS, "nan", "must be a number"),
    "a-region-that-is-no-name": (common.REGION, "eu north", "must be 1 to 64 of"),
    "a-database-of-another-kind": (origin.DATABASE_URL, "mysql://me:hunter2@db", "must begin with postgresql://"),
    "a-password-in-the-origin": (edge.ORIGIN_URL, "https://me:hunter2@hub", "must be the origin's address"),
    "a-bootstrap-key-that-is-none": (origin.BOOTSTRAP_KEY, "hunter2", "must be 32 to 512 printable"),
}


@pytest.mark.parametrize(("setting", "text", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(setting: Setting[Any], text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Reader({setting.name: text}, {}).get(setting)
    message = str(caught.value)
    assert message.startswith(setting.label)
    assert told in message
    assert "\n" not in message
    assert "hunter2" not in message


@pytest.mark.parametrize(("text", "value"), [("", 8080), ("  ", 8080), (" 9000 ", 9000), ("0009000", 9000)], ids=repr)
def test_an_empty_variable_counts_as_none_and_spaces_do_not_count(text: str, value: int) -> None:
    assert Reader({"KEYWRIGHT_PORT": text}, {}).get(common.PORT) == value


def test_a_flag_wins() -> None:
    variables = {"KEYWRIGHT_ORIGIN_URL": "https://a", "KEYWRIGHT_ORIGIN": "https://b"}
    assert Reader(variables, {"KEYWRIGHT_ORIGIN_URL": "https://c"}).get(edge.ORIGIN_URL) == "https://c"
    assert Reader(variables, {"KEYWRIGHT_ORIGIN_URL": ""}).get(edge.ORIGIN_URL) is None


def test_an_empty_scheme_is_a_value() -> None:
    assert Reader({}, {}).get(common.FORWARD_AUTH_SCHEME) == "Bearer"
    assert Reader({"KEYWRIGHT_FORWARD_AUTH_SCHEME": ""}, {}).get(common.FORWARD_AUTH_SCHEME) == ""


OLD: list[tuple[Setting[Any], str, str, Any]] = [
    (origin.MAX_TAGS, "KEYWRIGHT_TAGS", "7", 7),
    (origin.MAX_METADATA_BYTES, "KEYWRIGHT_METADATA_BYTES", "2048", 2048),
    (common.MIN_REVISION_TIMEOUT_SECONDS, "KEYWRIGHT_MIN_REVISION_TIMEOUT", "250", 0.25),
    (edge.ORIGIN_URL, "KEYWRIGHT_ORIGIN", "https://hub/", "https://hub"),
    (edge.SNAPSHOT_FILE, "KEYWRIGHT_SNAPSHOT", "/a/file", Path("/a/file")),
    (edge.HAPROXY_SOCKET, "KEYWRIGHT_HAPROXY", "/a/socket", Path("/a/socket")),
]


@pytest.mark.parametrize(("setting", "name", "text", "value"), OLD, ids=lambda value: str(value)[:40])
def test_an_old_name_goes_on_working(setting: Setting[Any], name: str, text: str, value: Any) -> None:
    assert Reader({name: text}, {}).get(setting) == value
    assert Reader({name: text, setting.name: ""}, {}).get(setting) == value


def test_the_old_name_of_the_management_key_goes_on_working() -> None:
    secret = Reader({"KEYWRIGHT_API_KEY": "a-management-key"}, {}).get(other_parts.MANAGEMENT_KEY)
    assert secret is not None
    assert secret.reveal() == "a-management-key"


def test_an_old_name_keeps_its_unit_and_its_bounds() -> None:
    with pytest.raises(SettingsError, match=r"^KEYWRIGHT_MIN_REVISION_TIMEOUT must be a whole number from 0 to 10000"):
        Reader({"KEYWRIGHT_MIN_REVISION_TIMEOUT": "0.5"}, {}).get(common.MIN_REVISION_TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    ("variables", "setting"),
    [
        ({"KEYWRIGHT_MAX_TAGS": "5", "KEYWRIGHT_TAGS": "7"}, origin.MAX_TAGS),
        ({"KEYWRIGHT_MANAGEMENT_KEY": "hunter2-one", "KEYWRIGHT_API_KEY": "hunter2-two"}, other_parts.MANAGEMENT_KEY),
        (
            {"KEYWRIGHT_MIN_REVISION_TIMEOUT_SECONDS": "0.5", "KEYWRIGHT_MIN_REVISION_TIMEOUT": "501"},
            common.MIN_REVISION_TIMEOUT_SECONDS,
        ),
    ],
    ids=["tags", "management-key", "timeout"],
)
def test_both_names_with_different_values_are_refused(variables: dict[str, str], setting: Setting[Any]) -> None:
    with pytest.raises(SettingsError, match="differ; unset one of them") as caught:
        Reader(variables, {}).get(setting)
    assert all(name in str(caught.value) for name in variables)
    assert "hunter2" not in str(caught.value)


def test_both_names_with_one_value_are_taken() -> None:
    variables = {"KEYWRIGHT_MIN_REVISION_TIMEOUT_SECONDS": "0.50", "KEYWRIGHT_MIN_REVISION_TIMEOUT": "500"}
    assert Reader(variables, {}).get(common.MIN_REVISION_TIMEOUT_SECONDS) == 0.5


def test_paths_are_of_the_data_directory_unless_they_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = OriginSettings.load(data_dir=tmp_path)
    assert (settings.pepper_file, settings.master_key_file) == (tmp_path / "pepper.key", tmp_path / "master.key")
    monkeypatch.setenv("KEYWRIGHT_PEPPER_FILE", "~/pepper")
    assert OriginSettings.load(data_dir=tmp_path).pepper_file == Path.home() / "pepper"


def test_no_secret_is_in_the_repr_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PEPPER", "MASTER_KEY", "BOOTSTRAP_KEY", "EDGE_TOKEN", "NATS_PASSWORD", "NATS_TOKEN"):
        monkeypatch.setenv(f"KEYWRIGHT_{name}", "hunter2-hunter2")
    monkeypatch.setenv("KEYWRIGHT_NATS_URL", "nats://hub:4222")
    monkeypatch.setenv("KEYWRIGHT_NATS_USER", "relay")
    assert "hunter2" not in repr(OriginSettings.load())
    assert "hunter2" not in repr(EdgeSettings.load())
