"""The consumers of a user: the list, making one, one of them with its keys, another name, and deleting it."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.models import Consumer
from keywright.origin.keys import snippets
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.web import portal_layout as frame
from keywright.origin.web.forms import Form
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door


def register(door: Door) -> None:
    @door.get("")
    async def consumer_list(visit: Visit) -> Response:
        place = await frame.enter(visit)
        _, views = await self_serve.list_consumers(visit.work, place.bucket.name, with_secrets=False)
        may_create = await self_serve.may_create_consumer(visit.work, place.bucket)
        return await frame.page(visit, "consumers/list.html", place, views=views, may_create=may_create)

    @door.get("/new")
    async def new_form(visit: Visit) -> Response:
        place = await frame.enter(visit)
        return await frame.page(visit, "consumers/new.html", place)

    @door.post("/new", form=new_form, action="self-serve.consumer.create")
    async def create(visit: Visit) -> Response:
        place = await frame.enter(visit)
        description = visit.form.description()
        visit.form.check()
        _, view = await self_serve.create_consumer(visit.work, place.bucket.name, description=description)
        keys = view.keys or ()
        visit.request.path_params["consumerName"] = view.consumer.name
        return await show_made(visit, view.secrets[keys[0].id].reveal())

    @door.get("/consumers/{consumerName}")
    async def consumer(visit: Visit) -> Response:
        place = await frame.enter(visit)
        bucket, view = await self_serve.get_consumer(visit.work, frame.ref(visit))
        return await frame.page(
            visit,
            "consumers/detail.html",
            place,
            view=view,
            title=title_of(view.consumer),
            url=frame.consumer_url(visit),
            samples=snippets.of(place.brand.api_url),
            may=bucket.self_serve,
        )

    @door.get("/consumers/{consumerName}/rename")
    async def rename_form(visit: Visit) -> Response:
        place = await frame.enter(visit)
        _, view = await self_serve.get_consumer(visit.work, frame.ref(visit))
        form = visit.form.or_of(description=view.consumer.description)
        url = frame.consumer_url(visit)
        return await frame.page(
            visit, "consumers/rename.html", place, form=form, url=url, title=title_of(view.consumer)
        )

    @door.post("/consumers/{consumerName}/rename", form=rename_form, action="self-serve.consumer.update")
    async def rename(visit: Visit) -> Response:
        await frame.enter(visit)
        description = visit.form.description()
        visit.form.check()
        await self_serve.rename(visit.work, frame.ref(visit), description=description)
        return visit.go(frame.consumer_url(visit), "The new name is saved.")

    @door.get("/consumers/{consumerName}/delete")
    async def delete_form(visit: Visit) -> Response:
        place = await frame.enter(visit)
        _, view = await self_serve.get_consumer(visit.work, frame.ref(visit))
        return await frame.confirm(
            visit,
            place,
            heading=f"Delete {title_of(view.consumer)}?",
            lines=["All its keys stop working at once, and everything that uses them. There is no way back."],
            button="Delete it with all its keys",
        )

    @door.post("/consumers/{consumerName}/delete", form=delete_form, action="self-serve.consumer.delete")
    async def delete(visit: Visit) -> Response:
        await frame.enter(visit)
        await self_serve.delete_consumer(visit.work, frame.ref(visit))
        visit.is_awaited = True
        return visit.go(visit.base, "It is deleted with all its keys.")


def title_of(consumer: Consumer) -> str:
    """How a user calls a consumer."""
    return consumer.description or consumer.name


async def show_made(visit: Visit, secret: str, words: str = "") -> Response:
    """A key that was made just now, with how to use it.

    Answered at once rather than after a redirect, so that the secret is kept nowhere for the next page.
    """
    place = await frame.enter(visit)
    visit.resend_url = frame.consumer_url(visit)
    samples = snippets.of(place.brand.api_url)
    return await frame.page(
        visit,
        "keys/created.html",
        place,
        form=Form({}),
        secret=secret,
        words=words,
        url=visit.resend_url,
        samples=samples,
    )
