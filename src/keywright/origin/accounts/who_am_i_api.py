"""Who the caller is: a management key, or an end user with a token of the identity provider."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import Field
from pydantic.alias_generators import to_camel

from keywright.origin.accounts import rules
from keywright.origin.auth import bearer
from keywright.origin.auth.actors import Actor, ActorKind
from keywright.origin.db.transaction import Transaction
from keywright.origin.openapi.fields import Shape, without_default
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.authenticate import Caller, ManagementKeyCaller
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.request import CurrentUnitOfWork, OriginRoute
from keywright.origin.pipeline.services import Services
from keywright.origin.self_serve.caller import EndUserCaller


class AnyCaller(Caller):
    """Whoever shows a token that has the form of a JWT is an end user, where there is an identity provider."""

    def __init__(self) -> None:
        self._key = ManagementKeyCaller()
        self._user = EndUserCaller()

    async def authenticate(self, request: Request, services: Services) -> Actor:
        borne = bearer.parse_bearer(bearer.authorization_of(request), "management key")
        # A JWS in its compact form (RFC 7515 section 7.1), whose header is a JSON object.
        is_token = services.end_users is not None and borne.startswith("eyJ") and borne.count(".") == 2
        return await (self._user if is_token else self._key).authenticate(request, services)

    def meter(self, actor: Actor, services: Services) -> Meter:
        return self._of(actor).meter(actor, services)

    async def accept_invites(self, request: Request, services: Services, actor: Actor) -> None:
        """Who asks who they are accepts nothing by it."""

    async def reauthenticate(self, tx: Transaction, request: Request, services: Services, actor: Actor) -> Actor:
        return await self._of(actor).reauthenticate(tx, request, services, actor)

    def _of(self, actor: Actor) -> Caller:
        return self._user if actor.kind is ActorKind.USER else self._key


class AnyCallerRoute(OriginRoute):
    """A route for management keys and end users alike."""

    caller = AnyCaller()


def _operation_id(route: APIRoute) -> str:
    return to_camel(route.endpoint.__name__)


router = APIRouter(
    prefix="/v1",
    tags=["Accounts"],
    route_class=AnyCallerRoute,
    redirect_slashes=False,
    generate_unique_id_function=_operation_id,
)


class WhoAmIShape(Shape):
    """Who the caller is."""

    account: str = Field(
        default="",
        description="The account of the management key.",
        examples=["my-account"],
        json_schema_extra=without_default,
    )
    sub: str = Field(
        description="The id of the management key, or the subject of the end user.",
        examples=["key_m1m4ol223R0kGHGZY7tPQMQl"],
    )
    email: str = Field(
        default="",
        description="The verified e-mail address of the end user, where the token tells one.",
        examples=["ada@example.com"],
        json_schema_extra=without_default,
    )


@router.get(
    "/who-am-i", name="who-am-i", summary="Who am I", responses=problems(403), response_model_exclude_unset=True
)
async def who_am_i(work: CurrentUnitOfWork) -> WhoAmIShape:
    """The management key that is calling, and its account; or the end user whose token it is."""
    actor = work.actor
    if actor.kind is ActorKind.USER:
        return WhoAmIShape(sub=actor.sub, email=actor.email) if actor.email else WhoAmIShape(sub=actor.sub)
    account = await rules.get_own(work)
    return WhoAmIShape(account=account.name, sub=actor.sub)
