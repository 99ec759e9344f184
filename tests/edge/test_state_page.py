"""The page that readers which are no Python judge time by says what Python goes by, and never more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.lease import Lease
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.state_page import FILE, NONE, SLOT_BYTES, Slot, State, StatePage, pack_boot
from support.clock import FakeClock

BOOT = "8b0f1a5c-0c44-4f0e-9d5c-2f1f7a1b2c3d"


@pytest.fixture
def page(tmp_path: Path) -> StatePage:
    return StatePage(tmp_path / FILE, BOOT)


def test_a_page_that_is_not_there_says_nothing(page: StatePage) -> None:
    assert page.read() == State(None, None, None)


def test_a_page_says_what_was_put_in_it_rounded_to_the_older_side(page: StatePage) -> None:
    page.put_in_step(12.3459)
    page.put_clock(1_800_000_000_000.9, None)
    page.put_lease(99.9999, 60.0, Path("there is none"))
    assert page.read() == State(12_345, (1_800_000_000_000, NONE), (99_999, 60_000))


def test_a_slot_of_another_start_of_the_machine_says_nothing(page: StatePage, tmp_path: Path) -> None:
    page.put_in_step(12.0)
    page.put_clock(None, None)
    page.put_lease(None, None, tmp_path / "lease.json")
    assert StatePage(tmp_path / FILE, "another-start").read() == State(None, None, None)


@pytest.mark.parametrize("slot", Slot)
def test_a_slot_with_any_bit_turned_says_nothing_and_the_others_do(page: StatePage, tmp_path: Path, slot: Slot) -> None:
    page.put_in_step(12.0)
    page.put_clock(None, None)
    page.put_lease(None, None, tmp_path / "lease.json")
    whole, known = (tmp_path / FILE).read_bytes(), page.read()
    parts = {Slot.IN_STEP: "in_step_at", Slot.CLOCK: "clock", Slot.LEASE: "lease"}
    for at in range(SLOT_BYTES):
        broken = bytearray(whole)
        broken[slot.offset + at] ^= 1 << at % 8
        (tmp_path / FILE).write_bytes(broken)
        found = page.read()
        assert [name for name in parts.values() if getattr(found, name) is None] == [parts[slot]]
        assert [getattr(found, n) for n in parts.values() if n != parts[slot]] == [
            getattr(known, n) for n in parts.values() if n != parts[slot]
        ]


@pytest.mark.parametrize("length", [0, 1, 63, 64, 127, 191])
def test_a_page_that_was_cut_says_nothing_of_what_is_missing(page: StatePage, tmp_path: Path, length: int) -> None:
    page.put_in_step(12.0)
    page.put_clock(None, None)
    page.put_lease(None, None, tmp_path / "lease.json")
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:length])
    found = page.read()
    assert [found.in_step_at is None, found.clock is None, found.lease is None] == [length < n for n in (64, 128, 192)]


def test_a_lease_that_an_older_version_wrote_since_takes_the_slot_away(page: StatePage, tmp_path: Path) -> None:
    note = tmp_path / "lease.json"
    note.write_text("{}")
    page.put_lease(None, None, note)
    assert page.read().lease == (NONE, NONE)
    os.utime(note, ns=(1, 1))
    assert page.read().lease is None
    page.put_lease(None, None, note)
    assert page.read().lease == (NONE, NONE)
    note.unlink()
    assert page.read().lease is None


def test_what_python_goes_by_is_in_the_page(tmp_path: Path) -> None:
    clock, page = FakeClock(), StatePage(tmp_path / FILE, BOOT)
    sync = SyncClock(tmp_path / "in-step.json", clock, boot_id=BOOT)
    origin = OriginClock(tmp_path / "origin-clock.json", clock, boot_id=BOOT)
    lease = Lease(tmp_path / "lease.json", clock, sync.lag_seconds, seconds=300.0, boot_id=BOOT)
    lease.publish()
    origin.publish()
    assert page.read() == State(None, (NONE, NONE), (NONE, 300_000))
    now = clock.elapsed()
    sync.advance(now)
    assert lease.offer(60.0) == 60.0
    origin.hear(clock.millis() + 5000, now - 0.01, now)
    found = page.read()
    assert found.in_step_at == int(now * 1000)
    assert found.lease == (int((now + 60) * 1000), 300_000)
    assert found.clock is not None
    assert abs(found.clock[0] + now * 1000 - clock.millis() - 5000) <= 10


def test_a_promise_that_cant_be_put_into_the_page_is_not_made(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "lease.json", FakeClock(), lambda: 0.0, boot_id=BOOT)
    (tmp_path / FILE).mkdir()
    assert lease.offer(60.0) is None


def test_a_note_that_cant_be_read_is_a_lease_that_is_over(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text("garbage")
    assert Lease(tmp_path / "lease.json", FakeClock(), lambda: 0.0, boot_id=BOOT).publish()
    assert StatePage(tmp_path / FILE, BOOT).read().lease == (0, NONE)


def test_a_start_is_named_by_the_bytes_of_the_kernels_uuid() -> None:
    assert pack_boot(BOOT).hex() == BOOT.replace("-", "")
    assert pack_boot("b1") == b"b1" + bytes(14)
