"""Keys of a consumer: shown, copied, made, changed, rolled, revoked."""

from __future__ import annotations

from datetime import datetime

from fastapi import Response

from keywright.domain.keyformat import Secret
from keywright.origin.consumers import rules as consumers
from keywright.origin.consumers.admin import CONSUMER, consumer_url, path_of, show
from keywright.origin.consumers.rules import Include
from keywright.origin.keys import rules as keys
from keywright.origin.keys.rules import KeyDraft
from keywright.origin.pipeline.route import RateLimiter
from keywright.origin.pipeline.unit_of_work import UNSET
from keywright.origin.web.admin_layout import NO_WRITE, bucket_page, confirm, find_bucket, require, show_made
from keywright.origin.web.forms import CUSTOM, NEVER
from keywright.origin.web.pages import moment
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door, limit

KEY = CONSUMER + "/keys/{keyId}"
REVEALS_PER_SECOND = 0.5
REVEALS_AT_ONCE = 30
"""Of one management key: a person looks at a few, a thief wants them all."""


def register(door: Door) -> None:
    _register_secrets(door)
    _register_changes(door)


def _register_secrets(door: Door) -> None:
    reveals = RateLimiter(REVEALS_PER_SECOND, REVEALS_AT_ONCE)

    @door.get(KEY + "/reveal")
    @door.get(KEY + "/copy")
    async def back(visit: Visit) -> Response:
        return visit.go(consumer_url(visit))

    @door.post(KEY + "/reveal", form=None, action="key.reveal", is_once=False)
    async def reveal(visit: Visit) -> Response:
        limit(reveals, visit.work.actor.sub, "You have looked at many keys.")
        secret = await keys.show(visit.work, path_of(visit), visit.at("keyId"))
        if visit.wants_json:
            return visit.json(secret=secret.reveal())
        return await show(visit, shown_key=visit.at("keyId"), shown_secret=secret.reveal())

    @door.post(KEY + "/copy", form=None, action="key.copy", is_once=False)
    async def copy(visit: Visit) -> Response:
        limit(reveals, visit.work.actor.sub, "You have copied many keys.")
        secret = await keys.show(visit.work, path_of(visit), visit.at("keyId"))
        return visit.json(secret=secret.reveal())


def _register_changes(door: Door) -> None:
    @door.get(CONSUMER + "/keys/new")
    async def new_key(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_write, NO_WRITE)
        consumer = (await consumers.get(visit.work, path_of(visit), Include())).consumer
        form = visit.form.or_of(expires=NEVER)
        return await bucket_page(visit, "consumers/key_form.html", place, form=form, consumer=consumer, key=None)

    @door.post(CONSUMER + "/keys/new", form=new_key, action="key.create")
    async def create(visit: Visit) -> Response:
        draft = KeyDraft(visit.form.description(), visit.form.expiry(visit.work.now))
        visit.form.check()
        (made,) = await keys.create(visit.work, path_of(visit), [draft])
        ends = f"until {moment(draft.expires_at)}" if draft.expires_at else "until it is revoked"
        return await _show_made(visit, "The key is there", made.secret, f"It works from now on, {ends}.")

    @door.get(KEY + "/edit")
    async def edit(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_write, NO_WRITE)
        _, consumer, key = await keys.get(visit.work, path_of(visit), visit.at("keyId"))
        form = visit.form.or_of(
            description=key.description,
            expires=CUSTOM if key.expires_at else NEVER,
            expires_at=_typed(key.expires_at),
        )
        return await bucket_page(visit, "consumers/key_form.html", place, form=form, consumer=consumer, key=key)

    @door.post(KEY + "/edit", form=edit, action="key.update")
    async def update(visit: Visit) -> Response:
        form = visit.form
        _, _, key = await keys.get(visit.work, path_of(visit), visit.at("keyId"))
        is_kept = form.get("expires") == CUSTOM and form.get("expires_at") == _typed(key.expires_at)
        # Left as it is, an end may be in the past, and keeps its seconds.
        description, expires_at = form.description(), UNSET if is_kept else form.expiry(visit.work.now)
        form.check()
        await keys.update(
            visit.work,
            path_of(visit),
            visit.at("keyId"),
            description=description,
            expires_at=expires_at,
            secret=UNSET,
        )
        href = consumer_url(visit, "keys", visit.at("keyId"), "edit")
        return visit.go(consumer_url(visit), "The key is saved.", href=href, link="Edit again")

    @door.get(CONSUMER + "/roll")
    async def ask_roll(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_write, NO_WRITE)
        view = await consumers.get(visit.work, path_of(visit), Include(keys=True))
        form = visit.form.or_of(expires="24h")
        return await bucket_page(
            visit, "consumers/key_roll.html", place, form=form, consumer=view.consumer, keys=view.keys
        )

    @door.post(CONSUMER + "/roll", form=ask_roll, action="consumer.roll-key")
    async def roll(visit: Visit) -> Response:
        ends_at = visit.form.expiry(visit.work.now)
        if visit.form.get("expires") == NEVER:
            visit.form.fail("expires", "must be one of those that are offered")
        visit.form.check()
        _, made = await keys.roll(visit.work, path_of(visit), expires_at=ends_at)
        if ends_at is None:
            visit.tell("The keys that were rolled are refused.")
            visit.is_awaited = True
        until = "ended just now" if ends_at is None else f"work until {moment(ends_at)}, unless they end sooner"
        words = f"It works from now on. The consumer's other keys {until}."
        return await _show_made(visit, "The keys are rolled", made.secret, words)

    @door.get(KEY + "/revoke")
    async def ask_revoke(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_write, NO_WRITE)
        _, _, key = await keys.get(visit.work, path_of(visit), visit.at("keyId"))
        return await confirm(
            visit,
            heading=f"Revoke key ****{key.hint}",
            lines=[
                "It is refused from the next request on. There is no way back.",
                "To give whoever uses it time to change, roll the consumer's keys instead.",
            ],
            button="Revoke key",
            back=consumer_url(visit),
        )

    @door.post(KEY + "/revoke", form=ask_revoke, action="key.delete")
    async def revoke(visit: Visit) -> Response:
        await keys.delete(visit.work, path_of(visit), visit.at("keyId"))
        visit.is_awaited = True
        return visit.go(
            consumer_url(visit),
            "The key is revoked: it is refused from now on. This can't be undone.",
            href=consumer_url(visit, "keys", "new"),
            link="Make another key",
        )


async def _show_made(visit: Visit, heading: str, secret: Secret, words: str) -> Response:
    label, on = f"New key of {visit.at('consumerName')}", (consumer_url(visit), "Back to the consumer")
    return await show_made(visit, heading=heading, label=label, secret=secret, words=words, on=on)


def _typed(expires_at: datetime | None) -> str:
    """A time as its field has it."""
    return f"{expires_at:%Y-%m-%dT%H:%M}" if expires_at else ""
