"""The consumers of a user: the list, making one, one of them with its keys, another name, and deleting it."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.models import Consumer
from keywright.origin.keys import snippets
from keywright.origin.keys.powers import granted_to, rate_limits_of
from keywright.origin.quotas.rules import list_for
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.usage import pictures
from keywright.origin.usage import rules as usage
from keywright.origin.web.forms import Form
from keywright.origin.web.portal_layout import (
    consumer_ref,
    consumer_url,
    render_confirmation,
    render_page,
    require_sign_in,
    url_of_consumer,
)
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

CONSUMER = "/consumers/{consumerName}"


async def consumer_list(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    _, views = await self_serve.list_consumers(request.work, portal.bucket.name, with_secrets=False)
    may_create = await self_serve.may_create_consumer(request.work, portal.bucket)
    return await render_page(request, "consumers/list.html", portal, views=views, may_create=may_create)


async def new_form(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    return await render_page(request, "consumers/new.html", portal)


async def create(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    description = request.form.description()
    request.form.check()
    _, view = await self_serve.create_consumer(request.work, portal.bucket.name, description=description)
    keys = view.keys or ()
    return await render_created_key(request, view.consumer.name, view.secrets[keys[0].id].reveal())


async def consumer(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    bucket, view = await self_serve.get_consumer(request.work, consumer_ref(request))
    return await render_page(
        request,
        "consumers/detail.html",
        portal,
        view=view,
        title=title_of(view.consumer),
        url=consumer_url(request),
        samples=snippets.of(portal.brand.api_url),
        may=bucket.self_serve,
        granted=sorted(granted_to(bucket, view.consumer).names),
        limits=rate_limits_of(view.consumer),
        quotas=await list_for(request.work.tx, view.consumer),
        sparks=pictures.sparks_of(
            await usage.of_found_consumer(request.work, bucket, view.consumer.number, pictures.BY_KEY), request.work.now
        ),
    )


async def rename_form(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    _, view = await self_serve.get_consumer(request.work, consumer_ref(request))
    form = request.form.or_initial(description=view.consumer.description)
    url = consumer_url(request)
    return await render_page(
        request, "consumers/rename.html", portal, form=form, url=url, title=title_of(view.consumer)
    )


async def rename(request: PageRequest) -> Response:
    await require_sign_in(request)
    description = request.form.description()
    request.form.check()
    await self_serve.rename(request.work, consumer_ref(request), description=description)
    return request.redirect(consumer_url(request), "Name saved.")


async def delete_form(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    _, view = await self_serve.get_consumer(request.work, consumer_ref(request))
    return await render_confirmation(
        request,
        portal,
        heading=f"Delete {title_of(view.consumer)}?",
        lines=["All its keys stop working immediately. This can't be undone."],
        button="Delete consumer and keys",
    )


async def delete(request: PageRequest) -> Response:
    await require_sign_in(request)
    await self_serve.delete_consumer(request.work, consumer_ref(request))
    request.waits_for_edges = True
    return request.redirect(request.base, "Consumer deleted.")


def title_of(consumer: Consumer) -> str:
    """How a user calls a consumer."""
    return consumer.description or consumer.name


async def render_created_key(request: PageRequest, consumer_name: str, secret: str, words: str = "") -> Response:
    """A key that was made just now, with how to use it.

    Answered at once rather than after a redirect, so that the secret is kept nowhere for the next page.
    """
    portal = await require_sign_in(request)
    request.resend_url = url_of_consumer(request, consumer_name)
    samples = snippets.of(portal.brand.api_url)
    return await render_page(
        request,
        "keys/created.html",
        portal,
        form=Form({}),
        secret=secret,
        words=words,
        url=request.resend_url,
        samples=samples,
    )


ROUTES = (
    GetRoute("", consumer_list),
    GetRoute("/new", new_form),
    PostRoute("/new", create, form=new_form, action="self-serve.consumer.create"),
    GetRoute(CONSUMER, consumer),
    GetRoute(CONSUMER + "/rename", rename_form),
    PostRoute(CONSUMER + "/rename", rename, form=rename_form, action="self-serve.consumer.update"),
    GetRoute(CONSUMER + "/delete", delete_form),
    PostRoute(CONSUMER + "/delete", delete, form=delete_form, action="self-serve.consumer.delete"),
)
