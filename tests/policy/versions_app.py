"""One small app in each framework, for versions.py: `/name` answers with the name of the consumer.

It runs where nothing is installed but the framework, a server, and what the policy itself needs.
"""

from __future__ import annotations

import os
from typing import Any

from keywright.policy import EmbeddedReplica

BUCKET = os.environ["APP_BUCKET"]


def source() -> EmbeddedReplica:
    token, pepper = os.environ["APP_TOKEN"], os.environ["APP_PEPPER"]
    directory = os.environ["APP_DIRECTORY"]
    return EmbeddedReplica.from_origin(os.environ["APP_URL"], token=token, directory=directory, pepper_file=pepper)


def plain_asgi() -> Any:
    from keywright.policy.asgi import ApiKeyPolicy

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": scope["user"].sub.encode()})

    return ApiKeyPolicy(app, source, bucket_name=BUCKET)


def plain_wsgi() -> Any:
    from keywright.policy.wsgi import ApiKeyPolicy

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["keywright.user"].sub.encode()]

    return ApiKeyPolicy(app, source, bucket_name=BUCKET)


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.authentication import requires
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from keywright.policy.asgi import ApiKeyPolicy

    @requires("authenticated")
    async def name(request: Any) -> Any:
        return PlainTextResponse(request.user.sub)

    policy = Middleware(ApiKeyPolicy, source=source, bucket_name=BUCKET)
    return Starlette(routes=[Route("/name", name)], middleware=[policy])


def fastapi() -> Any:
    from fastapi import FastAPI, Security

    from keywright.policy.fastapi import ApiKeyPolicy, KeyRefused, User, answer_problem

    policy = ApiKeyPolicy(source, bucket_name=BUCKET)
    app = FastAPI(lifespan=policy.lifespan)
    app.add_exception_handler(KeyRefused, answer_problem)

    def name(user: Any = Security(policy)) -> Any:  # noqa: B008
        return user

    app.get("/name", response_model=User)(name)
    assert app.openapi()["components"]["securitySchemes"] == {"ApiKey": {"type": "http", "scheme": "bearer"}}
    return app


def litestar() -> Any:
    from litestar import Litestar, Request, get

    from keywright.policy.asgi import ApiKeyPolicy

    async def name(request: Any) -> str:
        return str(request.user.sub)

    name.__annotations__ = {"request": Request, "return": str}
    return ApiKeyPolicy(Litestar([get("/name")(name)]), source, bucket_name=BUCKET)


def flask() -> Any:
    from flask import Flask, g

    from keywright.policy.flask import ApiKeyPolicy

    app = Flask(__name__)
    ApiKeyPolicy(app, source, bucket_name=BUCKET)
    app.get("/name")(lambda: g.user.sub)
    return app


def _django(**settings: Any) -> None:
    import django
    from django.conf import settings as all_of_them

    given = {"SOURCE": source, "BUCKET_NAME": BUCKET}
    urls = "policy.versions_urls"
    all_of_them.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, KEYWRIGHT=given, **settings)
    django.setup()


def django_wsgi() -> Any:
    from django.core.handlers.wsgi import WSGIHandler

    _django(MIDDLEWARE=["keywright.policy.django.ApiKeyMiddleware"])
    return WSGIHandler()


def django_asgi() -> Any:
    from django.core.handlers.asgi import ASGIHandler

    _django(MIDDLEWARE=["keywright.policy.django.ApiKeyMiddleware"])
    return ASGIHandler()


def drf() -> Any:
    from django.core.handlers.wsgi import WSGIHandler

    _django(
        INSTALLED_APPS=["rest_framework"],
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": ["keywright.policy.drf.ApiKeyAuthentication"],
            "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
            "EXCEPTION_HANDLER": "keywright.policy.drf.handle_exception",
            "UNAUTHENTICATED_USER": None,
        },
    )
    return WSGIHandler()


application = globals()[os.environ["APP_KIND"]]() if os.environ.get("APP_KIND") else None
