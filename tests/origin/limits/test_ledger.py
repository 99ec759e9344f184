"""Whatever is reported, lost, late or gone: edges never go by more than a limit together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from keywright.edge.shares.held import HeldShares
from keywright.origin.limits import ledger as ledger_module
from keywright.origin.limits.ledger import FORGET_SECONDS, IDLE_SECONDS, Ledger, Repeated
from keywright.protocol.shares import HELD_SECONDS, NO_SHARE, RISE_SECONDS, WHOLE, ShareAnswer, Use
from support.shares import Asked, SharingEdge, limit_id, tell

LIMITS = [limit_id(1), limit_id(2), limit_id(2, "y")]
BUSY = Use(10.0, True, 100, 60)
QUIET = Use(0.1, False, 100, 60)
SOME = {limit: Use(2.0, False, 100, 10) for limit in LIMITS}


def exchange(ledger: Ledger, edge: SharingEdge, uses: dict[bytes, Use], now: float) -> None:
    asked = edge.ask(uses, now)
    tell(ledger, [(edge, asked)], now)
    assert asked.answer is not None
    edge.held.take(asked.answer, now)


def run(
    ledger: Ledger, uses: dict[int, dict[bytes, Use]], edges: list[SharingEdge], since: float, seconds: int
) -> float:
    for second in range(seconds):
        for number, edge in enumerate(edges):
            if number in uses:
                exchange(ledger, edge, uses[number], since + second)
    return since + seconds


def shares(edges: list[SharingEdge], now: float, id: bytes = LIMITS[0]) -> list[float]:
    return [edge.held.share_of(id, now) / WHOLE for edge in edges]


def new_edges(count: int, now: float = 0.0) -> list[SharingEdge]:
    return [SharingEdge.new(f"edge-{number}", now) for number in range(count)]


def test_edge_that_was_told_nothing_admits_nothing_and_alone_it_has_all() -> None:
    ledger, (edge,) = Ledger(), new_edges(1)
    assert shares([edge], 0.0) == [0.0]
    exchange(ledger, edge, {}, 0.0)
    assert shares([edge], 1.0) == [1.0]


def test_edges_are_asked_to_come_back_soon_while_limits_are_in_use_or_parts_are_to_move() -> None:
    ledger, edges = Ledger(), new_edges(2)

    def pauses(now: float, uses: dict[bytes, Use]) -> list[float]:
        found = []
        for edge in edges:
            asked = edge.ask(uses, now)
            tell(ledger, [(edge, asked)], now)
            assert asked.answer is not None
            edge.held.take(asked.answer, now)
            found.append(asked.answer.pause_seconds)
        return found

    assert pauses(0.0, {}) == [1.0, 1.0]
    now = run(ledger, {0: {}, 1: {}}, edges, 1.0, 5)
    assert pauses(now, {}) == [3.0, 3.0]
    assert pauses(now + 1, {LIMITS[0]: BUSY}) == [1.0, 1.0]


def test_new_edge_gets_its_part_when_the_others_have_said_they_have_less() -> None:
    ledger, edges = Ledger(), new_edges(2)
    exchange(ledger, edges[0], {}, 0.0)
    exchange(ledger, edges[1], {}, 0.5)
    assert shares(edges, 0.6) == [1.0, 0.0]
    exchange(ledger, edges[0], {}, 1.0)
    exchange(ledger, edges[1], {}, 1.5)
    # The first was told, and has not said yet that it heard.
    assert shares(edges, 1.6) == [0.5, 0.0]
    exchange(ledger, edges[0], {}, 2.0)
    exchange(ledger, edges[1], {}, 2.5)
    assert shares(edges, 2.6) == [0.5, 0.5]


@pytest.mark.parametrize("count", [2, 4, 8, 64])
def test_limit_that_one_edge_alone_uses_is_its_own_within_seconds(count: int) -> None:
    ledger, edges = Ledger(), new_edges(count)
    now = run(ledger, {number: {} for number in range(count)}, edges, 0.0, 5)
    assert shares(edges, now) == [pytest.approx(1 / count)] * count
    uses = {number: {LIMITS[0]: BUSY} if number == 0 else {} for number in range(count)}
    now = run(ledger, uses, edges, now, 5)
    assert shares(edges, now)[0] >= 0.89
    assert sum(shares(edges, now)) <= 1


def test_edges_that_refuse_divide_evenly_what_the_others_do_not_need() -> None:
    ledger, edges = Ledger(), new_edges(3)
    now = 0.0
    for _ in range(12):
        # With a tenth of the limit it has enough.
        modest = Use(0.16, edges[2].held.share_of(LIMITS[0], now) < WHOLE * 0.1, 100, 60)
        now = run(ledger, {0: {LIMITS[0]: BUSY}, 1: {LIMITS[0]: BUSY}, 2: {LIMITS[0]: modest}}, edges, now, 1)
    found = shares(edges, now)
    assert found[0] == pytest.approx(found[1], rel=0.04)
    assert 0.1 < found[2] < 0.2
    assert 0.98 < sum(found) <= 1


def test_moved_traffic_takes_its_share_along_within_seconds() -> None:
    ledger, edges = Ledger(), new_edges(2)
    now = run(ledger, {0: {LIMITS[0]: BUSY}, 1: {}}, edges, 0.0, 8)
    now = run(ledger, {0: {}, 1: {LIMITS[0]: BUSY}}, edges, now, 4)
    assert shares(edges, now)[1] > 0.9


def test_cut_off_edge_keeps_its_share_for_10_seconds_and_then_has_one_of_n() -> None:
    ledger, edges = Ledger(), new_edges(4)
    now = run(ledger, {number: {} for number in range(4)}, edges, 0.0, 5)
    now = run(ledger, {0: {LIMITS[0]: BUSY}, 1: {}, 2: {}, 3: {}}, edges, now, 6)
    cut_at = now - 1
    big, small = shares(edges, now)[:2]
    assert big > 0.8
    assert shares(edges[:2], cut_at + HELD_SECONDS - 0.01) == [big, small]
    assert shares(edges[:2], cut_at + HELD_SECONDS) == [0.25, small]
    assert shares(edges[:2], cut_at + RISE_SECONDS) == [0.25, 0.25]


@pytest.mark.parametrize("seconds", [1, 4, 5, 9, 12])
def test_cut_off_edge_waits_for_one_of_n_until_nobody_else_has_it(seconds: int) -> None:
    ledger, edges = Ledger(), new_edges(2)
    now = run(ledger, {0: {}, 1: {}}, edges, 0.0, 5)
    now = run(ledger, {0: {LIMITS[0]: BUSY}, 1: {}}, edges, now, 6)
    # One is not heard any more, and some time later the other isn't, either.
    now = run(ledger, {0: {LIMITS[0]: BUSY}}, edges, now, seconds)
    for _ in range(300):
        now += 0.1
        assert sum(shares(edges, now)) <= 1
    assert shares(edges, now) == [0.5, 0.5]


def test_edge_whose_answers_are_lost_is_not_taken_to_hear_them() -> None:
    ledger, edges = Ledger(), new_edges(2)
    now = run(ledger, {0: {}, 1: {}}, edges, 0.0, 5)
    now = run(ledger, {0: {LIMITS[0]: BUSY}, 1: {}}, edges, now, 6)
    assert shares(edges, now)[0] > 0.8
    for _ in range(30):
        exchange(ledger, edges[0], {LIMITS[0]: BUSY}, now)
        # It is heard, but does not hear.
        tell(ledger, [(edges[1], edges[1].ask({}, now))], now)
        now += 1
        assert sum(shares(edges, now)) <= 1
    assert shares(edges, now) == [0.5, 0.5]


def test_fallback_does_not_grow_while_a_limit_is_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, edges = Ledger(), new_edges(2)
    many = {limit_id(number): BUSY for number in range(12)}
    now = run(ledger, {0: many}, edges, 0.0, 5)
    monkeypatch.setattr(ledger_module, "MAX_USES", 1)
    for _ in range(30):
        now = run(ledger, {0: many, 1: {}}, edges, now, 1)
        assert all(sum(shares(edges, now, limit)) <= 1 for limit in many)
    # In the end all was told.
    assert edges[1].held.fallback == WHOLE // 2


def test_silent_edge_has_one_of_n_kept_until_it_is_retired() -> None:
    ledger, edges = Ledger(), new_edges(2)
    now = run(ledger, {0: {}, 1: {}}, edges, 0.0, 5)
    now = run(ledger, {0: {LIMITS[0]: BUSY}, 1: {}}, edges, now, 5)
    assert shares(edges, now)[0] > 0.9
    now = run(ledger, {0: {LIMITS[0]: BUSY}}, edges, now, 100)
    assert shares(edges, now) == [pytest.approx(0.5), 0.5]
    assert ledger.prune({edges[0].key, edges[1].key}, now) == []
    assert ledger.prune({edges[0].key}, now) == [edges[1].key]
    now = run(ledger, {0: {LIMITS[0]: BUSY}}, edges, now, 5)
    assert shares(edges[:1], now) == [1.0]


def test_edge_that_is_not_known_any_more_stays_while_it_asks() -> None:
    ledger, (edge,) = Ledger(), new_edges(1)
    exchange(ledger, edge, {}, 0.0)
    assert ledger.prune(set(), FORGET_SECONDS) == []


def test_repeated_report_is_not_heard() -> None:
    ledger, (edge,) = Ledger(), new_edges(1)
    asked = edge.ask({}, 0.0)
    tell(ledger, [(edge, asked)], 0.0)
    with pytest.raises(Repeated):
        ledger.hear(edge.key, asked.report, 1.0)


def test_edge_gets_no_share_of_what_it_does_not_see_and_others_are_not_kept_from_it() -> None:
    ledger = Ledger()
    ledger.locate({1: 10, 2: 20})
    tenant, other = SharingEdge.new("a", 0.0, frozenset({10})), SharingEdge.new("b", 0.0, frozenset({20}))
    edges = [tenant, other]
    now = run(ledger, {0: {LIMITS[0]: BUSY, LIMITS[1]: BUSY}, 1: {LIMITS[1]: BUSY}}, edges, 0.0, 6)
    assert LIMITS[1] not in tenant.held.shares
    assert LIMITS[0] not in other.held.shares
    assert tenant.held.shares.keys() == {LIMITS[0]}
    # Neither sees what the other does: each is alone.
    assert shares([tenant], now) == [1.0]
    assert shares([other], now, LIMITS[1]) == [1.0]


def test_what_was_given_up_unused_is_given_once_and_no_longer_than_there_is_room() -> None:
    ledger, edges = Ledger(), new_edges(2)
    now = run(ledger, {0: {}, 1: {}}, edges, 0.0, 5)
    exchange(ledger, edges[0], {LIMITS[0]: BUSY}, now)
    exchange(ledger, edges[1], {}, now)
    freed = {LIMITS[0]: WHOLE // 4}
    asked = edges[1].ask({}, now + 1, freed)
    tell(ledger, [(edges[1], asked)], now + 1)
    assert asked.answer is not None
    edges[1].held.take(asked.answer, now + 1)
    exchange(ledger, edges[0], {LIMITS[0]: BUSY}, now + 1)
    assert edges[0].held.unused == freed
    exchange(ledger, edges[0], {LIMITS[0]: BUSY}, now + 2)
    assert edges[0].held.unused == freed
    # All is handed out: what comes now would be there twice.
    tell(ledger, [(edges[1], edges[1].ask({}, now + 3, freed))], now + 3)
    assert ledger.limits[LIMITS[0]].spare < WHOLE * 0.06


def test_limit_that_nobody_uses_is_not_shared_out_any_more() -> None:
    ledger, edges = Ledger(), new_edges(2)
    now = run(ledger, {0: {LIMITS[0]: BUSY}, 1: {}}, edges, 0.0, 8)
    now = run(ledger, {0: {}, 1: {}}, edges, now, int(IDLE_SECONDS) + 8)
    assert ledger.limits == {}
    assert [edge.held.shares for edge in edges] == [{}, {}]
    assert shares(edges, now) == [0.5, 0.5]


class Sharing(RuleBasedStateMachine):
    """Edges ask at any time, questions and answers are late or lost, edges join, start anew, and are retired."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.ledger = Ledger()
        self.edges: list[SharingEdge] = []
        self.retired: list[SharingEdge] = []
        self.under_way: dict[int, Asked] = {}

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.edges = new_edges(count, self.now)

    @rule(
        picks=st.lists(st.tuples(st.integers(0, 7), st.sampled_from([{}, {LIMITS[0]: BUSY}, {LIMITS[0]: QUIET}, SOME])),
                       min_size=1, max_size=6),
        fate=st.sampled_from(["answered", "answered", "answered", "lost", "late"]),
        seconds=st.floats(0.0, 1.5),
    )  # fmt: skip
    def ask(self, picks: list[tuple[int, dict[bytes, Use]]], fate: str, seconds: float) -> None:
        """Some ask together. Their questions take some time, within the bound that an edge waits for an answer."""
        asked = {
            number % len(self.edges): self.edges[number % len(self.edges)].ask(uses, self.now) for number, uses in picks
        }
        self.pass_time(seconds)
        together = [(self.edges[number], one) for number, one in asked.items()]
        tell(self.ledger, together, self.now)
        if fate == "late":
            self.pass_time(min(0.4, 1.9 - seconds))
        if fate != "lost":
            for edge, one in together:
                assert one.answer is not None
                edge.held.take(one.answer, one.asked_at)

    @rule(uses=st.sampled_from([{}, {LIMITS[0]: BUSY}, SOME]), skipped=st.integers(0, 7), seconds=st.integers(1, 6))
    def go_on(self, uses: dict[bytes, Use], skipped: int, seconds: int) -> None:
        """All but one ask every second."""
        for _ in range(seconds):
            for number, edge in enumerate(self.edges):
                if number != skipped:
                    exchange(self.ledger, edge, uses if number % 2 else {}, self.now)
            self.pass_time(1.0)

    @rule(seconds=st.sampled_from([0.3, 1.0, 3.0, 9.9, 10.1, 30.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule()
    def join(self) -> None:
        if len(self.edges) < 8:
            self.edges.append(SharingEdge.new(f"edge-{len(self.edges)}", self.now))

    @rule(number=st.integers(0, 7))
    def restart(self, number: int) -> None:
        self.edges[number % len(self.edges)].restart(self.now)

    @rule()
    def begin_to_watch(self) -> None:
        """Another process of the origin goes on from the rows: when each edge was heard it does not know."""
        for member in self.ledger.members.values():
            member.heard_at = member.sure_at = self.now
            member.is_fresh = False

    def pass_time(self, seconds: float) -> None:
        while seconds > 0:
            step = min(seconds, 0.5)
            self.now += step
            seconds -= step
            self.never_more_than_a_limit()

    @invariant()
    def never_more_than_a_limit(self) -> None:
        for id in [*LIMITS, limit_id(9)]:
            assert sum(edge.held.share_of(id, self.now) for edge in self.edges) <= WHOLE


TestSharing = pytest.mark.timeout(120)(Sharing.TestCase)
TestSharing.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, WHOLE)), min_size=1, max_size=6), st.floats(0, 60))
def test_edge_never_goes_by_more_than_the_larger_of_what_it_was_told(
    told: list[tuple[float, int]], then: float
) -> None:
    held, now = HeldShares(0.0), 0.0
    for number, (seconds, share) in enumerate(told):
        now += seconds
        held.take(ShareAnswer(number + 1, WHOLE // 4, 4, 1.0, False, {LIMITS[0]: share}), now)
    last = told[-1][1]
    assert held.share_of(LIMITS[0], now + then) <= max(last, WHOLE // 4)
    if then >= HELD_SECONDS:
        assert held.share_of(LIMITS[0], now + then) <= WHOLE // 4
        assert held.taken(now + then) == 0
    held.take(ShareAnswer(9, WHOLE // 4, 4, 1.0, False, {LIMITS[0]: NO_SHARE}), now)
    assert held.share_of(LIMITS[0], now) == WHOLE // 4
