"""Signing in to the admin portal with a management key, and its start page. The other way in is admin_oidc.py."""

from __future__ import annotations

import logging

from fastapi import Request, Response

from keywright.domain.permissions import Access
from keywright.domain.problems import BadRequest
from keywright.origin.accounts import rules as accounts
from keywright.origin.auth import admin_oidc, sessions
from keywright.origin.auth.actors import Actor
from keywright.origin.auth.attempts import AttemptLimit, Pace
from keywright.origin.auth.sessions import Session, SignedIn
from keywright.origin.db.transaction import Transaction
from keywright.origin.pipeline.context import client_address_of
from keywright.origin.pipeline.services import Services
from keywright.origin.web.admin_layout import account_url
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

log = logging.getLogger("keywright.origin")

PORTAL = "admin"
SIGN_INS = AttemptLimit(Pace(0.2, 15), Pace(2, 60), "Too many attempts to sign in have failed.")
"""A key can't be guessed; this keeps strangers from making us work."""


async def resume(tx: Transaction, token: str, request: Request, is_held: bool) -> tuple[Session, Actor] | None:
    services: Services = request.app.state.services
    account_name = request.path_params.get("accountName")
    return await sessions.resume(
        tx,
        PORTAL,
        token,
        services.dependencies,
        services.team,
        address=client_address_of(request),
        account_name=account_name,
        is_held=is_held,
    )


async def start(request: PageRequest) -> Response:
    account = await accounts.get_own(request.work)
    return request.redirect(account_url(request, account.name, "buckets"))


async def sign_in_page(request: PageRequest) -> Response:
    if request.session is not None:
        return request.redirect(request.safe_url(request.query("next")))
    form = request.form.or_initial(next=request.query("next"))
    return await request.render(
        "admin/sign_in.html",
        form=form,
        # A link, not a form: browsers apply form-action to the redirects that follow, too.
        provider_url=admin_oidc.url_of(request, form.get("next")) if request.services.team is not None else "",
        has_ended=request.query("ended"),
        has_left=request.query("left"),
    )


async def sign_in(request: PageRequest) -> Response:
    secret = request.form.line("key", most=512, is_required=True)
    request.form.check()
    with request.counts(SIGN_INS).judging(request.attempt()):
        actor, who = await _judge(request, secret or "")
    request.work.audit_draft.account_id = actor.grantee.account_id
    return await request.sign_in(who, request.safe_url(request.form.get("next")), actor)


async def _judge(request: PageRequest, secret: str) -> tuple[Actor, SignedIn]:
    found = await sessions.sign_in(request.work.tx, secret, request.work.dependencies, address=request.client_address)
    if found is None:
        log.warning("a sign-in to the admin portal was refused (%s, request %s)", request.client_address, request.id)
        raise _refused("is not a valid management key, has expired, is switched off, or may not be used from here")
    if not may_look(found[0]):
        raise _refused("has no access to this portal: its permissions are for validating keys or for edges only")
    return found


def may_look(actor: Actor) -> bool:
    """Whether there is anything that the actor could see."""
    grantee = actor.grantee
    if grantee.is_root or grantee.owned_bucket_id is not None:
        return True
    permissions = grantee.permissions
    return max([permissions.account, *permissions.buckets.values()]) >= Access.READ


def _refused(message: str) -> BadRequest:
    return BadRequest("The key was not accepted.", errors=[{"field": "body.key", "message": message}])


ROUTES = (
    GetRoute("", start),
    GetRoute("/sign-in", sign_in_page, is_open=True),
    PostRoute("/sign-in", sign_in, form=sign_in_page, action="admin.sign-in", is_open=True, is_once=False),
)
