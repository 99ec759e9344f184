"""The replica's files: several processes share them, a killed one harms nobody, and broken ones are never trusted."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import pytest

from edge.world import DIGESTER, PEPPER_CHECK, SECRETS, at, batch, consumer, filled
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.edge.validator import Validator
from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).parents[2]


def truncate(data: Path) -> None:
    os.truncate(data, data.stat().st_size // 2)


def garbage_header(data: Path) -> None:
    with data.open("r+b") as file:
        file.write(random.Random(1).randbytes(8192))


def not_lmdb(data: Path) -> None:
    data.write_bytes(b"this is a text file\n" * 1000)


def other_format(data: Path) -> None:
    env = lmdb.open(str(data.parent), max_dbs=5)
    with env.begin(write=True) as tx:
        tx.put(b"format", b"1", db=env.open_db(b"meta", txn=tx))
    env.close()


def other_databases(data: Path) -> None:
    data.unlink()
    env = lmdb.open(str(data.parent), max_dbs=5)
    with env.begin(write=True) as tx:
        tx.put(b"some", b"thing", db=env.open_db(b"other", txn=tx))
    env.close()


def garbage_record(data: Path) -> None:
    env = lmdb.open(str(data.parent), max_dbs=5)
    with env.begin(write=True) as tx:
        tx.put(b"my-bucket", b"\xff\xfe", db=env.open_db(b"buckets", txn=tx))
    env.close()


DAMAGES = [truncate, garbage_header, not_lmdb, other_format, other_databases, garbage_record]


@pytest.mark.parametrize("damage", DAMAGES)
def test_broken_files_are_refused_and_replaced_by_an_empty_replica(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path)
    damage(tmp_path / "data.mdb")
    with pytest.raises(ReplicaBroken):
        Replica.open(tmp_path, PEPPER_CHECK)
    with caplog.at_level(logging.WARNING):
        replica = Replica.open_or_replace(tmp_path, PEPPER_CHECK)
    assert "it is replaced" in caplog.text
    assert replica.revision is None
    replica.load("dep_1", PEPPER_CHECK, at(1), [])
    assert replica.revision == 1
    replica.close()


def test_an_empty_file_is_an_empty_replica(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").touch()
    replica = Replica.open(tmp_path, PEPPER_CHECK)
    assert replica.revision is None
    replica.close()


def test_the_directory_is_private(tmp_path: Path) -> None:
    Replica.open(tmp_path / "a" / "replica", PEPPER_CHECK).close()
    assert (tmp_path / "a" / "replica").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "replica" / "data.mdb").stat().st_mode & 0o777 == 0o600


def test_garbage_in_the_middle_never_makes_a_key_valid_for_another_consumer(tmp_path: Path) -> None:
    """In a process of its own, since LMDB may also die of it: then the supervisor starts another."""
    for seed in range(6):
        path = tmp_path / str(seed)
        filled(path)
        data = path / "data.mdb"
        source = random.Random(seed)
        with data.open("r+b") as file:
            for _ in range(6):
                file.seek(source.randrange(2, data.stat().st_size // 4096) * 4096)
                file.write(source.randbytes(4096))
        done = _run(path, "ask")
        assert done.returncode in {0, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT}, done.stderr
        if done.returncode == 0:
            assert done.stdout.split()[0] in {"refused", "fine", "corrupt"}, done.stdout


def test_a_replica_that_is_marked_corrupt_in_use_is_replaced_once_nobody_uses_it(tmp_path: Path) -> None:
    filled(tmp_path)
    replica = Replica.open(tmp_path, PEPPER_CHECK)
    other = _start(tmp_path, "hold")
    assert other.stdout is not None
    other.stdout.readline()
    replica.mark_corrupt()
    assert replica.is_marked_corrupt
    with pytest.raises(ReplicaBroken):
        replica.reopen()
    assert not replica.is_open
    other.kill()
    other.communicate()
    replica.reopen()
    assert replica.is_open
    assert not replica.is_marked_corrupt
    assert replica.revision is None
    replica.close()


def test_two_processes_write_and_each_sees_the_others_commits_at_once(tmp_path: Path) -> None:
    filled(tmp_path)
    replica = Replica.open(tmp_path, PEPPER_CHECK)
    other = _start(tmp_path, "echo")
    assert other.stdin is not None
    assert other.stdout is not None
    for turn in range(30):
        replica.apply(batch(5 + 2 * turn, [consumer(turn, 1, f"ours-{turn}")]))
        other.stdin.write(f"{turn}\n")
        other.stdin.flush()
        assert other.stdout.readline().strip() == f"ours-{turn}"
        found = replica.find("my-bucket", DIGESTER.digest(SECRETS[turn]))
        assert found is not None
        assert found[1] is not None
        assert found[1].name == f"theirs-{turn}"
    other.stdin.close()
    assert other.wait() == 0
    other.stdout.close()
    replica.close()


def test_a_writer_that_is_killed_loses_nothing_acknowledged_and_blocks_nobody(tmp_path: Path) -> None:
    filled(tmp_path)
    replica = Replica.open(tmp_path, PEPPER_CHECK)
    for turn in range(8):
        writer = _start(tmp_path, "write")
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(0.02 + 0.015 * turn)
        writer.kill()
        lines += writer.communicate()[0].splitlines()
        acknowledged = max(int(line) for line in lines if line.strip().isdigit())
        revision = replica.revision
        assert revision is not None
        assert revision >= acknowledged
        record = replica.find("my-bucket", DIGESTER.digest(SECRETS[0]))
        assert record is not None
        assert record[1] is not None
        # Records and cursor moved together: the consumer's name is the revision that wrote it.
        assert record[1].name == f"at-{revision}"
        assert replica.apply(batch(revision, [consumer(0, 1, f"at-{revision + 1}")])) == at(revision + 1)
    replica.close()


def test_a_reader_that_was_killed_keeps_pages_from_reuse_until_its_place_is_freed(tmp_path: Path) -> None:
    filled(tmp_path)
    replica = Replica.open(tmp_path, PEPPER_CHECK)

    def grown(turns: int) -> int:
        before = replica.used_bytes
        for _ in range(turns):
            replica.apply(batch(replica.revision or 0, [consumer(n, 1, "again") for n in range(50)]))
        return replica.used_bytes - before

    grown(10)
    kill_a_reader(tmp_path)
    assert grown(20) > 0
    assert replica.reader_check() == 1
    # What it held is taken first.
    grown(5)
    assert grown(20) == 0
    assert replica.reader_check() == 0
    replica.close()


def test_whoever_opens_a_replica_frees_the_places_of_readers_that_died(tmp_path: Path) -> None:
    filled(tmp_path)
    replica = Replica.open(tmp_path, PEPPER_CHECK)
    killed = kill_a_reader(tmp_path)
    assert f"{killed} " in replica._files._env.readers()
    opens = _start(tmp_path, "hold")
    assert opens.stdout is not None
    assert opens.stdout.readline() == "holding\n"
    assert f"{killed} " not in replica._files._env.readers()
    opens.kill()
    opens.communicate()
    replica.close()


def kill_a_reader(path: Path) -> int:
    """Have a process begin to read, and end it before it is done; the number that it had."""
    reader = _start(path, "read")
    assert reader.stdout is not None
    reader.stdout.readline()
    reader.kill()
    reader.communicate()
    return reader.pid


def test_an_edge_starts_whichever_page_of_its_replica_is_damaged(tmp_path: Path) -> None:
    """Found by `make test-faults`, seed 1047: LMDB has many names for damage, and a start must know them all."""
    filled(tmp_path / "good")
    with contextlib.closing(Replica.open(tmp_path / "good", PEPPER_CHECK)) as replica:
        pages = replica.used_bytes // 4096
    dice = random.Random(1)
    for page in [*range(12), *range(pages - 12, pages)]:
        path = tmp_path / f"damaged-{page}"
        shutil.copytree(tmp_path / "good", path)
        with (path / "data.mdb").open("r+b") as file:
            file.seek(page * 4096)
            file.write(dice.randbytes(64))
        Replica.open_or_replace(path, PEPPER_CHECK).close()
        shutil.rmtree(path)


def _run(path: Path, task: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(path, task), capture_output=True, text=True, timeout=60, check=False, env=_env())


def _start(path: Path, task: str) -> subprocess.Popen[str]:
    return subprocess.Popen(_command(path, task), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_env())


def _command(path: Path, task: str) -> list[str]:
    return [sys.executable, __file__, str(path), task]


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TESTS)}


def _main(path: Path, task: str) -> None:
    if task == "ask":
        try:
            replica = Replica.open(path, PEPPER_CHECK)
        except ReplicaBroken:
            print("refused")
            return
        validator = Validator(replica, DIGESTER, Clock().millis)
        verdicts = [validator.validate(secret, "my-bucket").verdict for secret in SECRETS]
        print("corrupt" if replica.is_marked_corrupt else "fine", {str(verdict) for verdict in verdicts})
        return
    replica = Replica.open(path, PEPPER_CHECK)
    if task == "hold":
        print("holding", flush=True)
        time.sleep(60)
    elif task == "read":
        with replica._files.read():
            print("reading", flush=True)
            time.sleep(60)
    elif task == "echo":
        for line in sys.stdin:
            turn = int(line)
            found = replica.find("my-bucket", DIGESTER.digest(SECRETS[turn]))
            assert found is not None
            assert found[1] is not None
            replica.apply(batch(6 + 2 * turn, [consumer(turn, 1, f"theirs-{turn}")]))
            print(found[1].name, flush=True)
    elif task == "write":
        while True:
            revision = replica.revision or 0
            print(replica.apply(batch(revision, [consumer(0, 1, f"at-{revision + 1}")])).revision, flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
