"""Owns what the addresses of the API have in common: the router, path parameters, pages and tags."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from fastapi.routing import APIRoute, APIRouter
from pydantic.alias_generators import to_camel
from starlette.convertors import StringConvertor, register_url_convertor

from keywright.domain import limits
from keywright.domain.names import ACCOUNT_NAME, BUCKET_NAME, CONSUMER_NAME, PROJECT_NAME
from keywright.domain.paging import Page
from keywright.origin.openapi.fields import Limit, Offset, WaitCount, WaitMillis
from keywright.origin.pipeline.publish import DEFAULT_MILLIS, Wait, ask_to_wait
from keywright.origin.pipeline.query import MAX_LIMIT, page_of
from keywright.origin.pipeline.request import READING, OriginRoute

TEXT_LENGTH = 320


class KeyIdConvertor(StringConvertor):
    """A segment that is a key's id: every one but `$bulk`, which is an address of its own beside the keys."""

    regex = r"(?!\$bulk$)[^/]+"


register_url_convertor("key_id", KeyIdConvertor())


async def _wait(
    request: Request,
    wait: Annotated[
        WaitCount | None,
        Query(
            description="`all`, or how many: answers when all edges, or so many, have applied the change.",
            examples=["all"],
        ),
    ] = None,
    millis: Annotated[
        WaitMillis,
        Query(
            alias="timeout", description="With `wait`: how many milliseconds at most. The change holds all the same."
        ),
    ] = DEFAULT_MILLIS,
) -> None:
    if wait is not None:
        ask_to_wait(request, Wait(None if wait == "all" else int(wait), millis))


class ApiRoute(OriginRoute):
    """A route of the Developer API; every one that writes may be asked to wait for the edges."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        dependencies = list(options.pop("dependencies", None) or [])
        is_write = not READING.issuperset(options.get("methods") or ["GET"])
        # A route is made again when its router is included.
        if is_write and all(one.dependency is not _wait for one in dependencies):
            dependencies.append(Depends(_wait))
        super().__init__(path, endpoint, dependencies=dependencies, **options)


def new_router(tag: str) -> APIRouter:
    return APIRouter(
        prefix="/v1",
        tags=[tag],
        route_class=ApiRoute,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )


def _operation_id(route: APIRoute) -> str:
    return to_camel(route.endpoint.__name__)


async def _page(
    limit: Annotated[Limit, Query(description="The most items to return; a larger number is cut to 1000.")] = MAX_LIMIT,
    offset: Annotated[Offset, Query(description="How many items to pass over.")] = 0,
) -> Page:
    return page_of(limit, offset)


AskedPage = Annotated[Page, Depends(_page)]

# A path that breaks such a pattern is not found, rather than not valid.
PathAccount = Annotated[
    str,
    Path(
        alias="accountName",
        description="The name of the account.",
        examples=["my-account"],
        json_schema_extra={"pattern": ACCOUNT_NAME},
    ),
]
PathProject = Annotated[
    str,
    Path(
        alias="projectName",
        description="The name of the project.",
        examples=["my-project"],
        json_schema_extra={"pattern": PROJECT_NAME},
    ),
]
PathBucket = Annotated[
    str,
    Path(
        alias="bucketName",
        description="The name of the bucket.",
        examples=["my-project-production"],
        json_schema_extra={"pattern": BUCKET_NAME},
    ),
]
PathPlan = Annotated[
    str,
    Path(
        alias="planName",
        description="The name of the plan.",
        examples=["gold"],
        json_schema_extra={"pattern": limits.NAME},
    ),
]
PathConsumer = Annotated[
    str,
    Path(
        alias="consumerName",
        description="The name of the consumer.",
        examples=["my-consumer"],
        json_schema_extra={"pattern": CONSUMER_NAME},
    ),
]
PathEdge = Annotated[
    str,
    Path(
        alias="edgeId",
        description="The id of the edge.",
        examples=["wq3v0bT1Hq2fJ7dYk9ZcXw"],
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]{16,64}$"},
    ),
]
PathKey = Annotated[
    str,
    Path(
        alias="keyId",
        description="The id of the key.",
        examples=["key_m1m4ol223R0kGHGZY7tPQMQl"],
        json_schema_extra={"pattern": "^key_[0-9A-Za-z]{24}$"},
    ),
]
PathManager = Annotated[
    str,
    Path(
        alias="managerId",
        description="The id of the manager or invite.",
        examples=["eusr_MeefoYod5eQN33MEjC4PeRFH"],
        json_schema_extra={"pattern": "^eusr_[0-9A-Za-z]{24}$"},
    ),
]
TagQuery = Annotated[
    str | None,
    Query(
        alias="tag",
        description="Written as `tag.<name>=<value>`, once or more: only a consumer that has all these tags counts. "
        "Reads pass over the others; writes answer 404 and change nothing.",
    ),
]
KeyTagQuery = Annotated[
    str | None,
    Query(
        alias="key-tag",
        description="Written as `key-tag.<name>=<value>`, once or more: only a key that has all these tags counts. "
        "Reads pass over the others; writes answer 404 and change nothing.",
    ),
]
