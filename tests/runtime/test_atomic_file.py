"""A file that is replaced is the old one or the new one; nothing else is left, and nobody else may read it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from keywright.runtime import atomic_file


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the disk, in order."""
    noted: list[str] = []
    fsync, replace, link = os.fsync, Path.replace, os.link

    def note_fsync(descriptor: int) -> None:
        is_directory = os.path.isdir(f"/proc/self/fd/{descriptor}")
        noted.append("sync directory" if is_directory else "sync file")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        noted.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "link", lambda *names: (noted.append("link"), link(*names)))
    monkeypatch.setattr(Path, "replace", note_replace)
    return noted


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path: Path, steps: list[str]) -> None:
    atomic_file.write(tmp_path / "file", b"new")
    assert steps == ["sync file", "rename", "sync directory"]
    steps.clear()
    atomic_file.create(tmp_path / "other", b"new")
    assert steps == ["sync file", "link", "sync directory"]


def test_a_note_does_not_wait_for_the_disk(tmp_path: Path, steps: list[str]) -> None:
    atomic_file.write(tmp_path / "file", b"new", is_durable=False)
    assert steps == ["rename"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_file_is_its_owners_alone_whatever_was_there(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o666)
    before = os.umask(umask)
    try:
        atomic_file.write(path, b"new")
        atomic_file.create(tmp_path / "other", b"new")
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o600
    assert {one.name for one in tmp_path.iterdir()} == {"file", "other"}


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail_halfway() -> None:
        with atomic_file.replacing(path) as file:
            file.write(b"ne")
            file.flush()
            raise RuntimeError("half of it")

    with pytest.raises(RuntimeError, match="half"):
        fail_halfway()
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 100_000 for number in range(4)]
    atomic_file.write(path, contents[0], is_durable=False)
    is_done = threading.Event()

    def rewrite(content: bytes) -> None:
        while not is_done.is_set():
            atomic_file.write(path, content, is_durable=False)

    threads = [threading.Thread(target=rewrite, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    seen = {path.read_bytes() for _ in range(300)}
    is_done.set()
    for thread in threads:
        thread.join()
    assert seen <= set(contents)


def test_a_file_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    assert atomic_file.create(tmp_path / "file", b"first")
    assert not atomic_file.create(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_what_a_kill_left_behind_is_written_over(tmp_path: Path) -> None:
    left = tmp_path / f".file.{os.getpid()}.{threading.get_native_id()}.part"
    left.write_bytes(b"half")
    atomic_file.write(tmp_path / "file", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
