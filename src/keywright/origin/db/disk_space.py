"""Owns which writes still go through when the disk is nearly full: those that take rights away, and what they need.

The rest is refused while there is still some room, which is theirs. When even that is used up they get the reserve
(runtime/disk.py).
"""

from __future__ import annotations

from keywright.domain.problems import InsufficientStorage
from keywright.runtime.disk import Disk

RECORD = "record"
"""What such a write is called where refused ones are counted."""

_ENDINGS = (".delete", ".roll-key", ".retire", ".sign-in", ".sign-out")
_OTHERS = frozenset(
    {
        "key.update",
        "self-serve.key.update",
        "consumer.update",
        "plan.update",
        "management-key.update",
        "owner-key.update",
    }
)
"""With these a key's end comes sooner, it is switched off, or is good for less."""
_RETRY_SECONDS = 60


def takes_away(action: str | None) -> bool:
    """Whether somebody could lose a right by an action, by its name in the audit log, or must do it to come to that."""
    return action is None or action.endswith(_ENDINGS) or action in _OTHERS


def make_room(disk: Disk | None, action: str | None) -> None:
    """Before something is written. Raises InsufficientStorage for what must leave the room that there is to others."""
    if disk is None or not disk.is_low:
        return
    if takes_away(action):
        disk.give_up()
        return
    disk.refused[RECORD] += 1
    raise too_full("The disk is full but for what revocations need: only deletions, rolls and ends of keys are done.")


def too_full(detail: str = "The disk is full; nothing was changed.") -> InsufficientStorage:
    return InsufficientStorage(detail, headers={"Retry-After": str(_RETRY_SECONDS)})
