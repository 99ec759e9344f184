"""A reader in Lua beside a writer that replaces, breaks, resizes or stops: it asks the edge, and guesses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.world import DIGESTER, NOW, PEPPER_CHECK, batch, bucket, consumer, key, load
from endpoints import table
from gateways.gateway import ROOT
from gateways.lua.machine import LuaMachine, quote
from gateways.lua.test_judge import Judges, new_judge
from keywright.edge.replica.replica import Replica
from keywright.edge.state_page import FILE
from keywright.runtime.clock import Clock
from support.process import until

BUCKET, SECRET = table.BUCKET, table.VALID


@pytest.fixture
def lua() -> Iterator[LuaMachine]:
    with LuaMachine() as machine:
        yield machine


@pytest.fixture
def judges(tmp_path: Path, lua: LuaMachine) -> Iterator[Judges]:
    made = Judges(tmp_path, lua)
    table.fill(made.replica, still=3600_000)
    assert ask(made) == ("VALID", "my-consumer")
    yield made
    made.replica.close()


def ask(judges: Judges, secret: str = SECRET, name: str = BUCKET) -> tuple[str, str]:
    return judges.ask_lua(secret, name, [], None)


def test_marked_files_are_let_go_of_and_those_in_their_place_are_read(judges: Judges) -> None:
    judges.replica.mark_corrupt = Replica.mark_corrupt.__get__(judges.replica)  # type: ignore[method-assign]
    judges.replica.mark_corrupt()
    until(lambda: ask(judges) == ("ASK", "broken pages were met"), 10)
    # Alone with them: no lock of the reader's is in the way.
    judges.replica.reopen()
    judges.set_time()
    until(lambda: ask(judges)[1].startswith("no snapshot yet"), 10)
    load(judges.replica, bucket(9, BUCKET), consumer(1, 9, "another-consumer"), key(SECRET, 9, 1))
    assert ask(judges) == ("VALID", "another-consumer")


def test_files_that_were_abandoned_to_a_reader_are_not_answered_from(judges: Judges) -> None:
    path = judges.path
    judges.replica.close()
    for name in ("data.mdb", "lock.mdb", "in-use.lock"):
        (path / name).unlink()
    until(lambda: ask(judges)[0] == "ASK", 10)
    judges.replica = Replica.open(path, PEPPER_CHECK)
    load(judges.replica, bucket(1, BUCKET))
    until(lambda: ask(judges)[0] == "UNKNOWN", 10)


def test_a_record_with_a_broken_byte_is_nothing_to_judge_by(judges: Judges) -> None:
    data = judges.path / "data.mdb"
    name = (1).to_bytes(4, "big") + DIGESTER.digest(table.SUCCESSOR)
    content = data.read_bytes()
    places = [at for at in range(len(content)) if content.startswith(name, at)]
    assert places
    with data.open("r+b") as file:
        for place in places:
            file.seek(place + len(name) + 12)
            file.write(bytes([content[place + len(name) + 12] ^ 1]))
    assert ask(judges, table.SUCCESSOR) == ("ASK", "a record is not as it was written")
    assert ask(judges) == ("VALID", "my-consumer")


def test_a_file_shorter_than_it_says_is_not_read(judges: Judges, tmp_path: Path) -> None:
    # Read where it ends it would kill the process with SIGBUS.
    judges.replica.close()
    os.truncate(judges.path / "data.mdb", 8192)
    with LuaMachine() as another:
        another.run(new_judge("judge", judges.path))
        judges.lua = another
        assert ask(judges) == ("ASK", "data.mdb is too short")
    judges.replica = Replica.open(tmp_path / "another", PEPPER_CHECK)


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"\xff" * 65536, b"no database" * 1000])
def test_a_file_of_something_else_is_not_read(judges: Judges, tmp_path: Path, content: bytes) -> None:
    judges.replica.close()
    (judges.path / "data.mdb").write_bytes(content)
    with LuaMachine() as another:
        another.run(new_judge("judge", judges.path))
        judges.lua = another
        assert ask(judges)[0] == "ASK"
    judges.replica = Replica.open(tmp_path / "another", PEPPER_CHECK)


def test_a_map_that_another_process_made_larger_is_taken_over(judges: Judges) -> None:
    environment = judges.replica._files._env
    environment.set_mapsize(environment.info()["map_size"] * 2)
    judges.replica.apply(batch(4, [key(table.NEVER_MADE, 1, 1)]))
    assert ask(judges, table.NEVER_MADE) == ("VALID", "my-consumer")
    assert ask(judges) == ("VALID", "my-consumer")


WRITER = """
import sys, time
from pathlib import Path
from edge.world import PEPPER_CHECK
from keywright.edge.replica.replica import Replica
replica = Replica.open(Path(sys.argv[1]), PEPPER_CHECK)
with replica._files.write() as tx:
    tx.drop(replica._files.keys, delete=False)
    print("writing", flush=True)
    time.sleep(600)
"""


def test_a_writer_that_is_killed_in_the_middle_changes_nothing(judges: Judges) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", WRITER, str(judges.path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        assert ask(judges) == ("VALID", "my-consumer")
        writer.send_signal(signal.SIGKILL)
    assert ask(judges) == ("VALID", "my-consumer")
    judges.replica.apply(batch(4, [key(table.NEVER_MADE, 1, 1)]))
    assert ask(judges, table.NEVER_MADE) == ("VALID", "my-consumer")


def test_the_place_of_a_reader_that_was_killed_is_freed(judges: Judges) -> None:
    os.kill(judges.lua.pid, signal.SIGKILL)
    until(lambda: judges.replica.reader_check() == 1, 10)


def test_a_file_grows_no_more_with_a_reader_than_without(judges: Judges, tmp_path: Path) -> None:
    control = Replica.open(tmp_path / "unread", PEPPER_CHECK)
    table.fill(control, still=3600_000)
    for number in range(600):
        change = batch(4 + number, [key(SECRET, 1, 1, NOW + 3600_000 + number)])
        judges.replica.apply(change)
        control.apply(change)
        assert ask(judges)[0] == "VALID"
    assert judges.replica.used_bytes <= control.used_bytes * 1.1
    control.close()


@pytest.mark.parametrize(("name", "value"), [(b"format", b"4"), (b"features", b'["recipes"]'), (b"pepper", b"0" * 16)])
def test_files_that_need_more_than_is_known_are_not_judged_by(judges: Judges, name: bytes, value: bytes) -> None:
    with judges.replica._files.write() as tx:
        tx.put(name, value, db=judges.replica._files.meta)
    assert ask(judges)[0] == "ASK"


def test_a_bucket_that_refuses_is_refused_from_its_moment_on(judges: Judges) -> None:
    strict = replace(bucket(1, BUCKET), refuse_after=60)
    load(judges.replica, strict, consumer(1, 1), key(SECRET, 1, 1))
    now = _elapsed()
    for lag, verdict in ((59.0, "VALID"), (61.0, "UNAVAILABLE")):
        judges.page.put_in_step(now - lag)
        until(lambda verdict=verdict: ask(judges)[0] == verdict, 5)
    # Not known, or a time to come.
    judges.page.put_in_step(now + 1000)
    until(lambda: ask(judges) == ("ASK", "it is not known how old the replica is"), 5)


def test_no_key_is_answered_for_when_the_lease_is_over(judges: Judges) -> None:
    note = judges.path / "lease.json"
    judges.page.put_lease(_elapsed() + 0.5, None, note)
    until(lambda: ask(judges)[0] == "UNAVAILABLE", 5)
    judges.page.put_lease(None, 60.0, note)
    until(lambda: ask(judges)[0] == "VALID", 5)
    judges.page.put_in_step(_elapsed() - 61)
    until(lambda: ask(judges)[0] == "UNAVAILABLE", 5)


def test_without_a_page_of_state_the_edge_is_asked(judges: Judges) -> None:
    (judges.path / FILE).rename(judges.path / "elsewhere")
    until(lambda: ask(judges) == ("ASK", "the state of the replica is not known"), 5)
    (judges.path / "elsewhere").rename(judges.path / FILE)
    until(lambda: ask(judges)[0] == "VALID", 5)
    # An edge that knows no page has promised something since.
    (judges.path / "lease.json").write_text("{}")
    until(lambda: ask(judges)[0] == "ASK", 5)


def test_keys_are_judged_by_the_origins_clock(judges: Judges) -> None:
    until_then = key(SECRET, 1, 1, NOW + 3600_000)
    judges.replica.apply(batch(4, [until_then]))
    assert ask(judges)[0] == "VALID"
    judges.page.put_clock(NOW + 3600_001 - _elapsed() * 1000, None)
    until(lambda: ask(judges)[0] == "EXPIRED", 5)
    # Not known, but no earlier than that; this machine's own clock is behind it.
    judges.page.put_clock(None, NOW + 3600_001 - _elapsed() * 1000)
    until(
        lambda: ask(judges)[0] == "EXPIRED" and judges.lua.run("return tostring(judge.state.start < 0)") == b"true", 5
    )


def test_two_lua_machines_of_one_process_share_what_is_open(judges: Judges) -> None:
    # A second machine, made by hand: its own modules, the same process.
    judges.lua.run(
        "for name in pairs(package.loaded) do if name:find '^keywright' and not name:find 'system' and not "
        "name:find 'environment' then package.loaded[name] = nil end end"
    )
    judges.lua.run("local e = require 'keywright.replica.environment'; first = e")
    judges.lua.run(new_judge("j", judges.path))
    found = judges.lua.run(f"return (j:validate({quote(BUCKET)}, {quote(SECRET)}, {{}}, nil))").decode()
    assert found == "VALID"
    assert ask(judges)[0] == "VALID"
    maps = Path(f"/proc/{judges.lua.pid}/maps").read_text()
    assert sum("data.mdb" in line for line in maps.splitlines()) == 1


def _elapsed() -> float:
    return Clock().elapsed()
