"""An edge of an earlier release beside an origin of this one, and the other way round: all real processes.

    .venv/bin/python tests/upgrade/run.py [COMMIT]

Takes the release from the history of this checkout (38f0c79, if no other is named), which CI does not have: there the
rows that readers of its format are sent are held to that format (tests/protocol/test_feed_formats.py,
tests/origin/feed/test_nats_formats.py). Prints a line for each thing that was seen; fails at the first that was not.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import httpx2  # noqa: E402

from support.api import BUCKET, BUCKET_URL, CONSUMERS_URL, VARIABLES, Api  # noqa: E402
from support.nats import BARE, NatsServer  # noqa: E402
from support.origin import FOLLOW  # noqa: E402
from support.process import BrokerEdgeProcess, EdgeProcess, ServeProcess, until  # noqa: E402

RELEASE = "38f0c79"
GONE = "UNKNOWN"
began = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


def release_at(base: Path, commit: str) -> dict[str, str]:
    """The variables that make `keywright` that of a release, whose sources are put below `base`."""
    packed = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(base, filter="data")
    return {"PYTHONPATH": str(base / "src")}


def set_key(api: Api, consumer: str, key_id: str, **powers: object) -> None:
    api.call("PATCH", f"{CONSUMERS_URL}/{consumer}/keys/{key_id}", json={"enabled": True, "scopes": None, **powers})


def set_consumer(api: Api, consumer: str, **powers: object) -> None:
    api.call("PATCH", f"{CONSUMERS_URL}/{consumer}", json={"enabled": True, "scopes": None, **powers})


def verdict_is(edges: Sequence[ServeProcess], key: str, *wanted: str, seconds: float = 20) -> Callable[[], None]:
    """Waits until each of these edges says so of a key."""

    def wait() -> None:
        until(lambda: all(edge.verdict(key) in wanted for edge in edges), seconds)

    return wait


def ask_new_questions(edge: ServeProcess, key: str) -> None:
    """None of the forms in which more than the key is asked for is answered with yes."""
    body = {"key": key, "scopes": ["orders:read"]}
    answers = {
        "/v2/validate": httpx2.post(f"{edge.url}/v2/validate/{BUCKET}", json=body, timeout=5),
        ";scope=": httpx2.get(
            f"{edge.url}/v1/forward-auth/{BUCKET};scope=orders:read",
            headers={"Authorization": f"Bearer {key}"},
            timeout=5,
        ),
    }
    for name, answer in answers.items():
        assert answer.status_code >= 400, f"{name}: {answer.status_code} {answer.text}"
    told = ", ".join(f"{name} {answer.status_code}" for name, answer in answers.items())
    say(f"an old edge answers new questions about a good key: {told}")


def old_edges_at_a_new_origin(base: Path, old: dict[str, str]) -> None:
    with NatsServer(base / "nats", BARE) as nats, ExitStack() as stack:
        origin = stack.enter_context(ServeProcess(base / "origin", "--nats", nats.url, **VARIABLES).wait_until_ready())
        api = stack.enter_context(Api(origin))
        token = api.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": FOLLOW})["key"]
        pepper = base / "origin" / "pepper.key"
        owner, other = api.new_consumer(), api.new_consumer()
        owners_key, powered = api.new_key(owner["name"]), api.new_key(other["name"])
        revoked = [api.new_key(other["name"]) for _ in range(9)]
        new = [
            EdgeProcess(base / "new-http", origin.url, token, pepper),
            BrokerEdgeProcess(base / "new-nats", nats.url, pepper),
        ]
        olds = [
            EdgeProcess(base / "old-http", origin.url, token, pepper, **old),
            BrokerEdgeProcess(base / "old-nats", nats.url, pepper, **old),
        ]
        for edge in [*new, *olds]:
            stack.enter_context(edge)
        for edge in [*new, *olds]:
            edge.wait_until_ready()
        for key in (owners_key, powered, revoked[-1]):
            verdict_is([*new, *olds], key["key"], "VALID")()
        say("all edges, two of them of the release, say VALID of every key")
        for edge in olds:
            ask_new_questions(edge, powered["key"])

        api.call("PATCH", BUCKET_URL, json={"defaultScopes": ["*"]})

        def revoke_another() -> None:
            key = revoked.pop(0)
            at = time.monotonic()
            api.call("DELETE", f"{CONSUMERS_URL}/{other['name']}/keys/{key['id']}", expect=204)
            verdict_is([*new, *olds], key["key"], GONE)()
            say(f"  another key was revoked: all edges say {GONE} after {time.monotonic() - at:.2f} s")

        steps: list[tuple[str, Callable[[], None], dict[str, tuple[str, str]]]] = [
            ("a key is switched off", lambda: set_key(api, other["name"], powered["id"], enabled=False),
             {powered["key"]: ("DISABLED", GONE)}),
            ("the key gets scopes instead", lambda: set_key(api, other["name"], powered["id"], scopes=["orders:read"]),
             {powered["key"]: ("VALID", GONE)}),
            ("the key loses its last power", lambda: set_key(api, other["name"], powered["id"]),
             {powered["key"]: ("VALID", "VALID")}),
            ("a consumer is switched off", lambda: set_consumer(api, owner["name"], enabled=False),
             {owners_key["key"]: ("DISABLED", GONE)}),
            ("the consumer gets scopes instead", lambda: set_consumer(api, owner["name"], scopes=["orders:*"]),
             {owners_key["key"]: ("VALID", GONE)}),
            ("the consumer loses its last power", lambda: set_consumer(api, owner["name"]),
             {owners_key["key"]: ("VALID", "VALID")}),
        ]  # fmt: skip
        for what, step, expected in steps:
            step()
            for key, (at_new, at_old) in expected.items():
                verdict_is(new, key, at_new)()
                verdict_is(olds, key, at_old)()
            say(f"{what}: new edges say {', '.join(one[0] for one in expected.values())}, "
                f"old ones {', '.join(one[1] for one in expected.values())}")  # fmt: skip
            revoke_another()
        set_key(api, other["name"], powered["id"], enabled=False)
        verdict_is(olds, powered["key"], GONE)()
        listed = api.call("GET", "/v1/accounts/my-account/edges")["data"]
        formats = sorted((one["region"] or "-", one["feedFormat"], one["refusesPowers"]) for one in listed)
        say(f"the list of edges tells (format, refuses powers): {[one[1:] for one in formats]}")
        assert [one[1] for one in formats].count(2) == 2
        for edge in olds:
            edge.kill()
            say(f"{edge.data_dir.name} at the end: {lines_of(edge)}")


def new_edges_at_an_old_origin(base: Path, old: dict[str, str]) -> None:
    with NatsServer(base / "nats", BARE) as nats, ExitStack() as stack:
        data, port = base / "origin", 0
        with ServeProcess(data, "--nats", nats.url, **VARIABLES, **old).wait_until_ready() as origin:
            port = origin.port
            with Api(origin) as api:
                token = api.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": FOLLOW})["key"]
                owner = api.new_consumer()
                good, bad, later = (api.new_key(owner["name"]) for _ in range(3))
                pepper = data / "pepper.key"
                edges = [
                    EdgeProcess(base / "http", origin.url, token, pepper),
                    BrokerEdgeProcess(base / "nats-edge", nats.url, pepper),
                ]
                for edge in edges:
                    stack.enter_context(edge)
                for edge in edges:
                    edge.wait_until_ready()
                verdict_is(edges, good["key"], "VALID")()
                api.call("DELETE", f"{CONSUMERS_URL}/{owner['name']}/keys/{bad['id']}", expect=204)
                verdict_is(edges, bad["key"], GONE)()
                say("new edges follow an origin of the release: a good key is VALID, a revoked one is not")
            origin.stop()
        assert all(edge.verdict(good["key"]) == "VALID" for edge in edges)
        say("the origin is stopped, and started as of this version on the same database: edges answer meanwhile")
        new = ServeProcess(data, "--nats", nats.url, port=port, **VARIABLES)
        stack.enter_context(new.wait_until_ready())
        with Api(new) as api:
            set_key(api, owner["name"], good["id"], enabled=False)
            verdict_is(edges, good["key"], "DISABLED", seconds=60)()
            api.call("DELETE", f"{CONSUMERS_URL}/{owner['name']}/keys/{later['id']}", expect=204)
        verdict_is(edges, later["key"], GONE)()
        for edge in edges:
            taken = [line for line in edge.output().splitlines() if "took a snapshot" in line]
            assert len(taken) == 2
            assert taken[1].split(" at revision")[0].endswith("/everything/3" if edge is edges[1] else "/3")
        say("both moved to format 3 with one snapshot, and say DISABLED of a key that was switched off")


def lines_of(edge: ServeProcess) -> str:
    lines = [line for line in edge.output().splitlines() if "WARNING" in line or "ERROR" in line]
    return f"{len(lines)} warnings" + "".join(f"\n    {line}" for line in lines[-4:])


def main(commit: str) -> None:
    with tempfile.TemporaryDirectory(prefix="keywright-upgrade-") as made:
        base = Path(made)
        old = release_at(base / "release", commit)
        for number, play in enumerate((old_edges_at_a_new_origin, new_edges_at_an_old_origin)):
            say(play.__name__.replace("_", " "))
            place = base / str(number)
            place.mkdir()
            play(place, old)
    say("all was as it should be")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else RELEASE)
