"""What waits is sent in order until the origin has taken it, and the origin's word is what becomes of it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from typing import TYPE_CHECKING

import httpx2
import pytest

from keywright.domain.keyformat import Digester
from keywright.edge.origin_calls import NotTaken
from keywright.edge.usage import delivering as module
from keywright.edge.usage import epoch_file
from keywright.edge.usage.channels import HttpUsageChannel, NoUsageChannel
from keywright.edge.usage.wishes import Wishes
from keywright.protocol.usage import LossReason
from keywright.protocol.usage_delivery import WISHES_QUESTION, Delivery, Outcome, UsageAnswer, UsageSigner
from support.clock import FakeClock
from support.usage import AWAY, Answering, CountingProcess, total_of

if TYPE_CHECKING:
    from pathlib import Path

    from keywright.edge.usage.delivering import Delivering


@pytest.fixture
def process(tmp_path: Path) -> CountingProcess:
    return CountingProcess(tmp_path / "usage", FakeClock())


@pytest.fixture
def origin() -> Answering:
    return Answering()


def fill(process: CountingProcess, batches: int) -> None:
    for _ in range(batches):
        process.use(None, 3)
        process.seal()


async def test_all_is_sent_in_order_and_goes_when_it_was_taken(process: CountingProcess, origin: Answering) -> None:
    fill(process, 4)
    await process.delivering(origin).deliver_all()
    assert [one.number for one in origin.batches] == [1, 2, 3, 4]
    assert process.spool.list_waiting() == []
    assert len({one.nonce for one in origin.heard}) == len(origin.heard)


async def test_what_was_not_taken_is_sent_again_as_it_was(process: CountingProcess, origin: Answering) -> None:
    fill(process, 3)
    delivering = process.delivering(origin)
    origin.answers = [UsageAnswer(Outcome.TAKEN), AWAY]
    with pytest.raises(NotTaken):
        await delivering.deliver_all()
    await delivering.deliver_all()
    contents = [one.content for one in origin.heard if one.content]
    assert [one.number for one in origin.batches] == [1, 2, 2, 3]
    assert contents[1] == contents[2]


async def test_origin_is_told_up_to_when_it_has_everything(process: CountingProcess, origin: Answering) -> None:
    delivering = process.delivering(origin)
    process.tick()
    await delivering.deliver_all()
    [alone] = origin.heard
    assert (alone.content, alone.known_until) == (b"", process.clock.millis() - 1000)
    fill(process, 2)
    [first, second] = process.spool.list_waiting()
    await delivering.deliver_all()
    of_first, of_second, alone = origin.heard[1:]
    assert of_first.known_until == of_second.known_until == first.since < second.since
    assert alone.known_until is not None
    assert alone.known_until > second.since


async def test_process_that_has_not_sealed_holds_back_what_is_known(
    process: CountingProcess, origin: Answering, tmp_path: Path
) -> None:
    beside = CountingProcess(tmp_path / "usage", process.clock)
    began = process.clock.millis() - 1000
    beside.use(None, 1)
    process.tick(100.0)
    await process.delivering(origin).deliver_all()
    assert [one.known_until for one in origin.heard] == [began]
    # One that was killed does, too, until that is said.
    beside.kill()
    process.tick(100.0)
    await process.delivering(origin).deliver_all()
    batch, alone = origin.heard[1:]
    assert batch.known_until == began
    assert [loss.reason for one in origin.batches for loss in one.losses] == [LossReason.KILLED]
    assert alone.known_until is not None
    assert alone.known_until > began


async def test_nothing_is_known_while_a_process_s_moment_can_t_be_read(
    process: CountingProcess, origin: Answering, tmp_path: Path
) -> None:
    [living] = epoch_file.list_living(tmp_path / "usage")
    os.truncate(tmp_path / "usage" / f"{living.epoch}.epoch", 2)
    await process.delivering(origin).deliver_all()
    assert [one.known_until for one in origin.heard] == [None]


async def test_gap_that_nobody_can_fill_is_said_to_be_lost(process: CountingProcess, origin: Answering) -> None:
    fill(process, 5)
    for one in process.spool.list_waiting()[:3]:
        one.path.unlink()
    origin.answers = [UsageAnswer(Outcome.GAP, 2)]
    delivering = process.delivering(origin)
    await delivering.deliver_all()
    await delivering.deliver_all()
    told = [(one.first_number, one.number, total_of([one])) for one in origin.batches]
    assert told == [(4, 4, 3), (2, 3, 0), (4, 4, 3), (5, 5, 3)]
    [loss] = [loss for one in origin.batches for loss in one.losses]
    assert (loss.first_number, loss.number, loss.lost, loss.reason) == (2, 3, None, LossReason.MISSING)


async def test_gap_is_no_loss_while_another_process_s_file_fills_it(
    process: CountingProcess, origin: Answering
) -> None:
    fill(process, 2)
    first = process.spool.list_waiting()[0]
    away = first.path.with_name("hidden")
    first.path.rename(away)
    origin.before = lambda: away.exists() and away.rename(first.path) and None
    origin.answers = [UsageAnswer(Outcome.GAP, 1)]
    delivering = process.delivering(origin)
    await delivering.deliver_all()
    await delivering.deliver_all()
    assert [one.number for one in origin.batches] == [2, 1, 2]
    assert [loss for one in origin.batches for loss in one.losses] == []


async def test_origin_that_asks_for_the_same_again_and_again_is_not_obeyed(
    process: CountingProcess, origin: Answering
) -> None:
    fill(process, 2)
    process.spool.list_waiting()[0].path.unlink()
    delivering = process.delivering(origin)
    origin.answers = [UsageAnswer(Outcome.GAP, 1)]
    await delivering.deliver_all()
    origin.answers = [UsageAnswer(Outcome.GAP, 1)]
    with pytest.raises(NotTaken, match="waits for batch 1"):
        await delivering.deliver_all()
    assert total_of(process.batches()) == 3


async def test_damaged_batch_is_set_aside_and_the_next_ones_go_on(
    process: CountingProcess, origin: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    fill(process, 3)
    damaged = process.spool.list_waiting()[1]
    damaged.path.write_bytes(damaged.path.read_bytes()[:-2])
    delivering = process.delivering(origin)
    await delivering.deliver_all()
    await delivering.deliver_all()
    assert [(one.number, total_of([one])) for one in origin.batches] == [(1, 3), (2, 0), (3, 3)]
    assert [loss.reason for one in origin.batches for loss in one.losses] == [LossReason.DAMAGED]
    assert os.listdir(process.spool.directory / "set-aside") == [damaged.path.name]
    assert "usage is lost" in caplog.text


async def test_conflict_loses_the_batch_and_has_its_process_draw_another_epoch(
    process: CountingProcess, origin: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    fill(process, 1)
    origin.answers = [UsageAnswer(Outcome.CONFLICT, 7)]
    delivering = process.delivering(origin)
    await delivering.deliver_all()
    assert "the origin had another batch" in caplog.text
    fill(process, 1)
    await delivering.deliver_all()
    before, after = origin.batches
    assert before.epoch != after.epoch
    assert after.number == 1


async def test_refused_batch_is_set_aside(process: CountingProcess, origin: Answering) -> None:
    fill(process, 1)
    origin.answers = [UsageAnswer(Outcome.REFUSED, detail="another deployment's")]
    await process.delivering(origin).deliver_all()
    assert process.spool.list_waiting() == []
    assert len(os.listdir(process.spool.directory / "set-aside")) == 1


async def test_copied_directory_sends_the_same_batches_under_the_same_names(
    process: CountingProcess, origin: Answering, tmp_path: Path
) -> None:
    fill(process, 2)
    shutil.copytree(tmp_path / "usage", tmp_path / "copy")
    copy = CountingProcess(tmp_path / "copy", process.clock, instance="fedcba9876543210")
    await process.delivering(origin).deliver_all()
    await copy.delivering(origin).deliver_all()
    mine, others = ([one for one in origin.heard if one.instance == who and one.content] for who in
                    ("0123456789abcdef", "fedcba9876543210"))  # fmt: skip
    assert [one.content for one in mine] == [one.content for one in others][: len(mine)]


async def test_what_an_outage_left_is_sent_half_of_the_time(
    process: CountingProcess, origin: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    fill(process, 14)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    origin.before = lambda: process.clock.advance(0.25)
    await process.delivering(origin).deliver_all()
    assert slept == [pytest.approx(0.25)] * 4


async def test_origin_may_ask_for_a_pause(
    process: CountingProcess, origin: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    fill(process, 1)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    origin.answers = [UsageAnswer(Outcome.TAKEN, pause_seconds=3.0)]
    await process.delivering(origin).deliver_all()
    assert slept == [3.0]


async def test_end_leaves_nothing_behind_where_the_origin_answers_at_once(
    process: CountingProcess, origin: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process.use(1, 3)
    process.sealer.close()
    delivering = process.delivering(origin)
    origin.answers = [AWAY]
    await delivering.deliver_last()
    assert "waits" in caplog.text
    assert len(process.spool.list_waiting()) == 1

    async def wait(_: Delivery) -> UsageAnswer:
        await asyncio.sleep(10)
        raise AssertionError("it was waited for")

    with monkeypatch.context() as slow:
        slow.setattr(module, "LAST_SECONDS", 0.01)
        slow.setattr(origin, "deliver", wait)
        await delivering.deliver_last()
    assert len(process.spool.list_waiting()) == 1
    await delivering.deliver_last()
    assert process.spool.list_waiting() == []
    assert total_of(list(origin.batches)[-1:]) == 3


async def test_failure_is_said_once_and_so_is_its_end(
    process: CountingProcess, origin: Answering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(process, 1)
    caplog.set_level(logging.INFO)
    origin.answers = [AWAY, AWAY, ValueError("a bug"), AWAY]
    pauses = await run(process.delivering(origin), monkeypatch, rounds=6)
    told = [record.getMessage().partition(",")[0].partition(":")[0] for record in caplog.records]
    assert told == ["usage can't be delivered", "usage can't be delivered", "usage is delivered again"]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 1.0, 1.0]


async def run(delivering: Delivering, monkeypatch: pytest.MonkeyPatch, *, rounds: int) -> list[float]:
    """The pauses between so many rounds."""
    pauses: list[float] = []

    class Over(BaseException): ...

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == rounds:
            raise Over

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    with pytest.raises(Over):
        await delivering.run()
    return pauses


DELIVERY = Delivery("0123456789abcdef", "fra-1", "eu", "0f" * 16, None, b"content")
SIGNER = UsageSigner(Digester(bytes(32)))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(httpx2.Response(404), "earlier version", id="an origin of before"),
        pytest.param(httpx2.Response(503), "503", id="an origin without its database"),
        pytest.param(httpx2.Response(200, content=bytes(100_000)), "more than", id="too much"),
        pytest.param(httpx2.Response(200, content=b"kwu1"), "not made by this deployment", id="garbage"),
        pytest.param(
            httpx2.Response(
                200,
                content=SIGNER.encode_answer(
                    UsageAnswer(Outcome.TAKEN), Delivery("0123456789abcdef", "fra-1", "eu", "1f" * 16, None)
                ),
            ),
            "not for this",
            id="the answer to another delivery",
        ),
    ],
)
async def test_what_is_no_answer_to_this_delivery_takes_nothing(answer: httpx2.Response, why: str) -> None:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: answer), base_url="http://origin")
    channel = HttpUsageChannel(client, Digester(bytes(32)))
    with pytest.raises(NotTaken, match=why):
        await channel.deliver(DELIVERY)
    await channel.close()


async def test_delivery_over_http_is_answered() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert (request.method, request.url.path) == ("POST", "/v1/feed/usage")
        delivery = SIGNER.decode_delivery(request.content)
        assert delivery == DELIVERY
        return httpx2.Response(200, content=SIGNER.encode_answer(UsageAnswer(Outcome.GAP, 3), delivery))

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url="http://origin")
    channel = HttpUsageChannel(client, Digester(bytes(32)))
    assert await channel.deliver(DELIVERY) == UsageAnswer(Outcome.GAP, 3)
    await channel.close()


async def test_edge_without_an_origin_delivers_nothing() -> None:
    channel = NoUsageChannel()
    with pytest.raises(NotTaken):
        await channel.deliver(DELIVERY)
    await channel.close()


async def test_what_the_origin_wishes_is_noted_for_all_processes(process: CountingProcess, origin: Answering) -> None:
    delivering, mine, others = process.delivering(origin), Wishes(process.spool.directory), []
    for recording in ({7}, {7, 8}, set[int]()):
        origin.recording = frozenset(recording)
        process.clock.advance(module.TELL_SECONDS)
        await delivering.deliver_all()
        others.append(mine.find("dep_1"))
        assert mine.find("dep_2") == frozenset()
    assert others == [{7}, {7, 8}, set()]


def test_note_that_can_not_be_read_wishes_nothing(tmp_path: Path) -> None:
    wishes = Wishes(tmp_path)
    assert wishes.find("dep_1") == frozenset()
    for text in (b"", b"{", b"[]", b'{"deployment":"dep_1"}', b'{"deployment":"dep_1","recordAddresses":["x"]}'):
        (tmp_path / "wishes.json").write_bytes(text)
        assert wishes.find("dep_1") == frozenset()
    wishes.put("dep_1", frozenset({1}))
    assert wishes.find("dep_1") == {1}


async def test_origin_that_knows_no_wishes_is_told_all_the_same() -> None:
    heard = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        signer = UsageSigner(Digester(b"pepper"))
        delivery = signer.decode_delivery(request.content)
        heard.append((delivery.content, delivery.known_until))
        outcome = Outcome.REFUSED if delivery.content else Outcome.TAKEN
        return httpx2.Response(200, content=signer.encode_answer(UsageAnswer(outcome), delivery))

    client = httpx2.AsyncClient(base_url="http://origin", transport=httpx2.MockTransport(answer))
    channel = HttpUsageChannel(client, Digester(b"pepper"))
    assert await channel.tell(Delivery("0123456789abcdef", "fra-1", "", "0f" * 16, 17)) == frozenset()
    assert heard == [(WISHES_QUESTION, 17), (b"", 17)]
    await channel.close()
