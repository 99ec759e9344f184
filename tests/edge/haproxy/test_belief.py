"""An edge reports what HAProxy's maps hold, until their lease has run out: whichever HAProxy, and after a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from edge.world import NOW, at
from keywright.edge.haproxy.belief import Belief

if TYPE_CHECKING:
    from pathlib import Path

    from keywright.protocol.changes import Cursor


@dataclass
class World:
    path: Path
    now: int = NOW
    past: set[Cursor] = field(default_factory=lambda: {at(revision) for revision in range(1, 100)})

    def start(self) -> Belief:
        belief = Belief(self.path, lambda: self.now, 5000, self.past.__contains__)
        belief.start()
        return belief


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "haproxy.json")


@pytest.fixture
def belief(world: World) -> Belief:
    """In step at revision 10, just renewed."""
    (world.path).write_text("[]")
    made = world.start()
    made.meet(None, 0)
    assert made.renew(at(10)) == NOW + 5000
    return made


def test_what_the_maps_lack_is_not_reached_until_the_lease_is_over(world: World, belief: Belief) -> None:
    assert (belief.reached(at(10)), belief.reached(at(12))) == (at(10), at(10))
    world.now += 5000
    assert belief.reached(at(12)) == at(12), "nobody is let in by those maps"
    belief.renew(at(12))
    assert belief.reached(at(13)) == at(12)


def test_of_a_lease_that_nobody_noted_nothing_is_known(world: World) -> None:
    belief = world.start()
    assert belief.reached(at(12)) is None
    world.now += 5000
    assert belief.reached(at(12)) == at(12)


def test_the_next_edge_knows_what_the_former_left(world: World, belief: Belief) -> None:
    world.now += 1000
    restarted = world.start()
    assert restarted.reached(at(12)) == at(10)
    restarted.meet(at(10), NOW + 5000)
    restarted.renew(at(12))
    assert restarted.reached(at(12)) == at(12), "it is the same HAProxy"
    assert belief.reached(None) is None


def test_a_haproxy_that_was_replaced_goes_on_by_its_own_maps(world: World, belief: Belief) -> None:
    belief.lose()
    belief.meet(None, 0)
    world.now += 1000
    belief.renew(at(12))
    assert belief.reached(at(12)) == at(10)
    assert world.start().reached(at(12)) == at(10), "so does the next edge know"
    world.now = NOW + 5000
    assert belief.reached(at(13)) == at(12)


def test_maps_of_another_past_count_for_nothing(world: World, belief: Belief) -> None:
    world.past.clear()
    assert belief.reached(at(50, history=2)) is None
    world.now += 5000
    assert belief.reached(at(50, history=2)) == at(50, history=2)


def test_a_lease_that_cannot_be_noted_is_not_given(
    world: World, belief: Belief, caplog: pytest.LogCaptureFixture
) -> None:
    world.path.unlink()
    world.path.mkdir()
    assert (belief.renew(at(12)), belief.renew(at(12))) == (None, None)
    assert len(caplog.records) == 1
    assert belief.reached(at(12)) == at(10)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[["x", 1]]', '[[null, "soon"]]', json.dumps([[1, 2]])])
def test_a_note_that_nobody_wrote_is_as_none(world: World, text: str) -> None:
    world.path.write_text(text)
    assert world.start().reached(at(12)) is None
