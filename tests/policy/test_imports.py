"""What an application takes into its process with the policy, and what it doesn't."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from keywright import policy

# Packages (and parts of this one) that come with an import, beside the standard library.
OURS_BARE = {"keywright.domain", "keywright.http", "keywright.policy"}
OURS_REPLICA = {*OURS_BARE, "keywright.edge", "keywright.protocol", "keywright.runtime"}
HTTPX = {"httpx2", "httpcore2", "anyio", "idna", "certifi", "h11", "truststore", "sniffio", "typing_extensions"}
ORIGIN = {
    "sqlalchemy",
    "alembic",
    "jinja2",
    "granian",
    "prometheus_client",
    "typer",
    "rich",
    "cryptography",
    "aiosqlite",
}


def loaded(module: str) -> tuple[set[str], set[str]]:
    """Third-party packages, and rooms of our own, that importing a module brings into a fresh process."""
    script = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = json.loads(done.stdout)
    ours = {".".join(name.split(".")[:2]) for name in names if name.startswith("keywright.")}
    bare = subprocess.run(
        [sys.executable, "-c", script.replace(module, "this")], capture_output=True, text=True, check=True
    )
    already = {name.split(".")[0] for name in json.loads(bare.stdout.splitlines()[-1])}
    roots = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - already - {"keywright"}
    return {root for root in roots if not root.startswith("_")}, ours


@pytest.mark.parametrize(
    ("module", "packages", "rooms"),
    [
        ("keywright.policy", set(), OURS_BARE),
        ("keywright.policy.asgi", set(), OURS_BARE),
        ("keywright.policy.wsgi", set(), OURS_BARE),
        ("keywright.policy.generic", set(), OURS_BARE),
        ("keywright.policy.testing", set(), OURS_BARE),
        ("keywright.policy.remote", set(), OURS_BARE),
        ("keywright.policy.shared", {"lmdb"}, OURS_REPLICA),
        ("keywright.policy.embedded", {"lmdb", *HTTPX}, OURS_REPLICA),
    ],
)
def test_an_import_brings_in_only_what_it_is_for(module: str, packages: set[str], rooms: set[str]) -> None:
    found, ours = loaded(module)
    assert found <= packages
    assert ours <= rooms


@pytest.mark.parametrize("name", ["fastapi", "drf", "django", "flask", "testing.pytest_plugin"])
def test_no_integration_brings_in_the_origin(name: str) -> None:
    found, ours = loaded(f"keywright.policy.{name}")
    # Flask has templates of its own.
    assert found & ORIGIN <= ({"jinja2"} if name == "flask" else set())
    assert ours <= OURS_BARE


def test_every_name_of_the_package_is_there_and_loaded_when_asked_for() -> None:
    assert {name: getattr(policy, name).__name__ for name in policy.__all__} == {name: name for name in policy.__all__}
    assert set(policy.__all__) == set(policy._MODULES)
    with pytest.raises(AttributeError, match="Nobody"):
        _ = policy.Nobody
