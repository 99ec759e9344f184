"""The checker sees what breaks each rule: a good history passes, and every way of spoiling it is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from edge.world import consumer, key
from faults.checker import RULES, violations
from faults.history import Answer, Held, History, Write, WriteKind
from keywright.protocol.changes import Change, ConsumerDelete, KeyDelete

FIRST, SECOND, THIRD = key("first-secret", 2, 5), key("second-secret", 2, 5), key("third-secret", 2, 5)
ONE = consumer(5, 2, "one", '{"n":1}')
TWO = replace(ONE, metadata='{"n":2}')
RECORDS: list[Change] = [TWO, SECOND, THIRD]


def good() -> History:
    """Key one is made (12), two and three together (13, 14), metadata set (15), key one revoked (16)."""
    write = lambda kind, at, **more: Write(kind, "one", at, at + 0.5, **more)  # noqa: E731
    answer = lambda at, low, high, verdict, n=None, reader="edge-1": Answer(  # noqa: E731
        reader, FIRST.digest, at, at + 0.1, low, high, verdict, n
    )
    return History(
        base=10,
        log=[(11, ONE), (12, FIRST), (13, SECOND), (14, THIRD), (15, TWO), (16, KeyDelete(FIRST.digest, 2))],
        writes=[
            write(WriteKind.CREATE, 1, digests=(FIRST.digest,)),
            write(WriteKind.CREATE, 2, digests=(SECOND.digest, THIRD.digest)),
            write(WriteKind.METADATA, 3, n=2),
            write(WriteKind.REVOKE, 4, digests=(FIRST.digest,), revision=16, applied_by=frozenset({"edge-1"})),
        ],
        answers=[
            answer(0.0, None, None, "503"),
            answer(1.6, 11, 12, "UNKNOWN"),
            answer(2.1, 12, 13, "VALID", 1),
            answer(3.1, 14, 15, "VALID", 2),
            answer(4.1, 15, 16, "VALID", 2),
            answer(4.6, 16, 16, "UNKNOWN"),
            answer(4.6, 16, 16, "UNKNOWN", reader="origin"),
        ],
        record=Held(16, RECORDS),
        edges={"edge-1": Held(16, RECORDS)},
        visible={"edge-1": RECORDS},
    )


def accept_what_ended_everywhere(history: History) -> None:
    history.writes[3] = replace(history.writes[3], applied_by=frozenset(), is_everywhere=True)
    history.answers.append(Answer("edge-9", FIRST.digest, 4.7, 4.8, 15, 15, "VALID", 2))


def test_a_good_history_breaks_no_rule() -> None:
    assert violations(good()) == []


def lose_a_key(history: History) -> None:
    history.log[1] = (12, key("another-secret", 2, 5))


def lose_a_revocation(history: History) -> None:
    history.log[5] = (16, KeyDelete(SECOND.digest, 2))


def lose_metadata(history: History) -> None:
    history.log[4] = (15, ONE)


def lose_the_end_of_a_consumer(history: History) -> None:
    history.writes.append(Write(WriteKind.END, "one", 5, 5.5))


def lose_a_row(history: History) -> None:
    history.record = Held(16, [TWO, SECOND])


def keep_a_row_too_many(history: History) -> None:
    history.record = Held(16, [TWO, FIRST, SECOND, THIRD])


def make_half_of_a_batch(history: History) -> None:
    del history.log[3]
    history.writes[1] = replace(history.writes[1], acknowledged_at=None)


def tell_another_revision(history: History) -> None:
    history.writes[3] = replace(history.writes[3], revision=15)


def pass_over_a_late_commit(history: History) -> None:
    history.log[1:3] = [(12, SECOND), (13, FIRST)]
    history.log[2:4] = [(14, THIRD), (15, FIRST)]
    history.log[4] = (13, TWO)


def go_back(history: History) -> None:
    history.answers.append(Answer("edge-1", SECOND.digest, 5.0, 5.1, 15, 15, "VALID", 2))


def go_back_within_one_answer(history: History) -> None:
    history.answers.append(Answer("edge-1", SECOND.digest, 5.0, 5.1, 16, 15, "VALID", 2))


def end_at_an_older_revision(history: History) -> None:
    history.edges["edge-1"] = Held(15, RECORDS)


def accept_a_revoked_key(history: History) -> None:
    history.answers.append(Answer("edge-1", FIRST.digest, 5.0, 5.1, 16, 16, "VALID", 2))


def accept_a_key_too_early(history: History) -> None:
    history.answers[1] = replace(history.answers[1], low=10, high=11, verdict="VALID", n=1)


def refuse_a_living_key(history: History) -> None:
    history.answers.append(Answer("edge-1", SECOND.digest, 5.0, 5.1, 16, 16, "UNKNOWN"))


def mix_two_revisions(history: History) -> None:
    # Key one never was valid with any other metadata than 1 and 2; between 12 and 14 only with 1.
    history.answers[2] = replace(history.answers[2], n=2)


def keep_keys_of_a_consumer_that_is_gone(history: History) -> None:
    history.log.append((17, ConsumerDelete(5)))
    history.record = Held(17, [])
    history.edges["edge-1"], history.visible = Held(17, []), {"edge-1": []}
    history.answers.append(Answer("edge-1", SECOND.digest, 6.0, 6.1, 17, 17, "VALID", 2))


def fall_silent(history: History) -> None:
    history.answers.append(Answer("edge-1", FIRST.digest, 5.0, 5.1, None, None, "503"))


def not_show_its_own_write(history: History) -> None:
    history.answers[-1] = replace(history.answers[-1], low=15, high=15, verdict="VALID", n=2)


def not_hold_what_was_said_to_be_applied(history: History) -> None:
    history.answers[-2] = replace(history.answers[-2], low=15, high=15, verdict="VALID", n=2)


def be_refuted_though_its_revision_is_not_known(history: History) -> None:
    history.answers[-2] = replace(history.answers[-2], low=None, high=None, verdict="VALID", n=2)


def lack_a_record(history: History) -> None:
    history.edges["edge-1"] = Held(16, [TWO, SECOND])


def hold_a_record_too_many(history: History) -> None:
    history.edges["edge-1"] = Held(16, [TWO, FIRST, SECOND, THIRD])


def hold_an_altered_record(history: History) -> None:
    history.edges["edge-1"] = Held(16, [TWO, SECOND, replace(THIRD, expires_at=1)])


def say_that_it_knows_and_not_know(history: History) -> None:
    # Its revision tells it: it has not heard of the last one, which was long ago.
    history.answers.append(Answer("edge-2", SECOND.digest, 5.0, 5.1, 15, 15, "VALID", 2, known_at=4.9))


def accept_what_it_says_that_it_knows_the_end_of(history: History) -> None:
    # Its revision tells nothing: it dropped the revocation on the way.
    history.answers.append(Answer("edge-2", FIRST.digest, 5.0, 5.1, None, None, "VALID", 2, known_at=4.9))


def accept_long_after_all_was_healed(history: History) -> None:
    history.healed_at = 20.0
    history.answers.append(Answer("edge-2", FIRST.digest, 51.0, 51.1, 15, 15, "VALID", 2))


def accept_when_asked_for_the_last_time(history: History) -> None:
    history.healed_at = 20.0
    history.answers.append(Answer("edge-2", FIRST.digest, 21.0, 21.1, None, None, "VALID", is_last=True))


def not_come_back(history: History) -> None:
    history.unhealed.append("edge-1 is not in step")


SPOILT: list[tuple[Callable[[History], None], str]] = [
    (accept_what_ended_everywhere, "no_edge_accepts_what_ended_everywhere"),
    (lose_a_key, "nothing_acknowledged_is_lost"),
    (lose_a_revocation, "nothing_acknowledged_is_lost"),
    (lose_metadata, "nothing_acknowledged_is_lost"),
    (lose_the_end_of_a_consumer, "nothing_acknowledged_is_lost"),
    (lose_a_row, "nothing_acknowledged_is_lost"),
    (keep_a_row_too_many, "nothing_acknowledged_is_lost"),
    (make_half_of_a_batch, "nothing_is_half_done"),
    (tell_another_revision, "the_revision_that_was_told_is_the_one_of_the_change"),
    (pass_over_a_late_commit, "revisions_are_in_the_order_of_acknowledgements"),
    (go_back, "no_reader_goes_back"),
    (go_back_within_one_answer, "no_reader_goes_back"),
    (end_at_an_older_revision, "no_reader_goes_back"),
    (accept_a_revoked_key, "every_answer_is_that_of_one_revision"),
    (accept_a_key_too_early, "every_answer_is_that_of_one_revision"),
    (refuse_a_living_key, "every_answer_is_that_of_one_revision"),
    (mix_two_revisions, "every_answer_is_that_of_one_revision"),
    (keep_keys_of_a_consumer_that_is_gone, "every_answer_is_that_of_one_revision"),
    (fall_silent, "who_has_answers_goes_on_answering"),
    (not_show_its_own_write, "an_origin_shows_its_own_writes"),
    (not_hold_what_was_said_to_be_applied, "what_an_edge_has_applied_holds_there"),
    (be_refuted_though_its_revision_is_not_known, "what_an_edge_has_applied_holds_there"),
    (say_that_it_knows_and_not_know, "who_is_in_step_knows_of_what_was_revoked"),
    (accept_what_it_says_that_it_knows_the_end_of, "who_is_in_step_knows_of_what_was_revoked"),
    (accept_long_after_all_was_healed, "what_was_revoked_is_refused_once_all_has_healed"),
    (accept_when_asked_for_the_last_time, "what_was_revoked_is_refused_once_all_has_healed"),
    (lack_a_record, "in_the_end_every_edge_equals_the_record"),
    (hold_a_record_too_many, "in_the_end_every_edge_equals_the_record"),
    (hold_an_altered_record, "in_the_end_every_edge_equals_the_record"),
    (not_come_back, "in_the_end_every_edge_equals_the_record"),
]


@pytest.mark.parametrize(("spoil", "rule"), SPOILT, ids=lambda item: getattr(item, "__name__", ""))
def test_what_breaks_a_rule_is_seen_and_named(spoil: Callable[[History], None], rule: str) -> None:
    history = good()
    spoil(history)
    assert rule in {said.partition(":")[0] for said in violations(history)}


def test_every_rule_is_seen_to_fail() -> None:
    assert {rule for _, rule in SPOILT} == {rule.__name__ for rule in RULES}


def test_a_reader_whose_replica_was_damaged_may_be_without_one_until_it_is_filled_again() -> None:
    history = good()
    fall_silent(history)
    history.damages.append((4.9, "edge-1"))
    assert violations(history) == []


def test_damage_may_be_found_after_answers_from_what_was_left_but_once() -> None:
    history = good()
    history.damages.append((4.5, "edge-1"))
    fall_silent(history)
    assert violations(history) == []
    history.answers.append(Answer("edge-1", FIRST.digest, 6.0, 6.1, 16, 16, "UNKNOWN"))
    assert violations(history) == []
    history.answers.append(Answer("edge-1", FIRST.digest, 7.0, 7.1, None, None, "503"))
    assert violations(history) == ["who_has_answers_goes_on_answering: edge-1 had a replica and answered 503 at 7.000"]


def test_the_damage_of_one_excuses_no_other() -> None:
    history = good()
    fall_silent(history)
    history.damages.append((4.9, "edge-2"))
    assert len(violations(history)) == 1


def test_who_said_goodbye_may_refuse_after_its_next_start_until_it_answers_again() -> None:
    history = good()
    fall_silent(history)
    history.comebacks.append((4.9, "edge-1"))
    assert violations(history) == []
    history.answers.append(Answer("edge-1", FIRST.digest, 6.0, 6.1, 16, 16, "UNKNOWN"))
    history.answers.append(Answer("edge-1", FIRST.digest, 7.0, 7.1, None, None, "503"))
    assert violations(history) == ["who_has_answers_goes_on_answering: edge-1 had a replica and answered 503 at 7.000"]
    history.comebacks[:] = [(4.9, "edge-2")]
    assert len(violations(history)) == 2


def test_who_says_that_it_is_behind_or_has_had_no_time_may_accept_what_was_revoked() -> None:
    history = good()
    history.healed_at = 20.0
    history.answers += [
        Answer("edge-2", FIRST.digest, 5.0, 5.1, 15, 15, "VALID", 2, known_at=4.4),
        Answer("edge-2", FIRST.digest, 6.0, 6.1, 15, 15, "VALID", 2),
        Answer("edge-2", FIRST.digest, 49.0, 49.1, 15, 15, "VALID", 2),
    ]
    assert violations(history) == []


def test_a_frozen_process_may_be_without_a_replica_for_a_while_and_no_longer() -> None:
    history = good()
    history.freezes.append((4.9, 6.0, "edge-1"))
    fall_silent(history)
    history.answers.append(Answer("edge-1", FIRST.digest, 15.0, 15.1, None, None, "503"))
    assert violations(history) == []
    history.answers.append(Answer("edge-1", FIRST.digest, 17.0, 17.1, None, None, "503"))
    assert violations(history) == ["who_has_answers_goes_on_answering: edge-1 had a replica and answered 503 at 17.000"]
