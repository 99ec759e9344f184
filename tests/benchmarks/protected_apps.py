"""The apps of the section `apps`: one route, unprotected, behind our policy, or behind another library.

Run as `python protected_apps.py PORT KIND DIRECTORY [ORIGIN TOKEN]`: one worker of Granian, as everywhere here. Other
libraries are set up as their READMEs do it; what they need to know of keys they make in DIRECTORY/KIND.keys.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bare_server import serve
from fastapi import Depends, FastAPI, Request, Security
from granian.constants import Interfaces

from keywright.policy import asgi, fastapi
from keywright.policy.embedded import EmbeddedReplica
from keywright.policy.remote import RemoteEdge
from keywright.policy.shared import SharedReplica

BUCKET = "my-project-production"
VARIABLE = "BENCH_APP"
OTHER_KEYS = {"drf-api-key": 1000, "fastapi-keyshield": 10}
"""Keys that other libraries make at their start; keyshield takes a while for each."""


def create() -> Any:
    kind, *arguments = json.loads(os.environ[VARIABLE])
    return _KINDS[kind](kind, *arguments)


def _unprotected(kind: str, *_: str) -> Any:
    app = FastAPI()

    @app.get("/hello")
    async def hello(request: Request) -> dict[str, str]:
        return {"message": f"Hello, {request.method}-customer!"}

    return app


def _middleware(kind: str, *arguments: str) -> Any:
    app = FastAPI()
    app.add_middleware(asgi.ApiKeyPolicy, source=_source(kind, *arguments), bucket_name=BUCKET)

    @app.get("/hello")
    async def hello(request: Request) -> dict[str, str]:
        return {"message": f"Hello, {request.user.sub}!"}

    return app


def _passing(kind: str, *_: str) -> Any:
    """What any policy in an ASGI app costs at the least."""

    class Passing:
        def __init__(self, app: Any) -> None:
            self._app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                scope["user"] = [value for name, value in scope["headers"] if name == b"authorization"]
            await self._app(scope, receive, send)

    app = _unprotected(kind)
    app.add_middleware(Passing)
    return app


def _dependency(kind: str, *arguments: str) -> Any:
    policy = fastapi.ApiKeyPolicy(_source("fastapi-shared", *arguments), bucket_name=BUCKET)
    app = FastAPI(lifespan=policy.lifespan)

    @app.get("/hello")
    async def hello(user: fastapi.User = Security(policy)) -> dict[str, str]:  # noqa: B008
        return {"message": f"Hello, {user.sub}!"}

    return app


def _keyshield(kind: str, directory: str, *_: str) -> Any:
    """Its README's FastAPI application: Argon2, SQLAlchemy on SQLite."""
    import asyncio
    import warnings
    from collections.abc import AsyncIterator

    from keyshield import ApiKeyService
    from keyshield.api import create_depends_api_key
    from keyshield.hasher.argon2 import Argon2ApiKeyHasher
    from keyshield.repositories.sql import SqlAlchemyApiKeyRepository
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

    warnings.simplefilter("ignore")
    hasher = Argon2ApiKeyHasher(pepper="the pepper of a benchmark")
    engine = create_async_engine(f"sqlite+aiosqlite:///{directory}/keyshield.db")
    sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened, opened.begin():
            yield opened

    async def service(opened: AsyncSession = Depends(session)) -> ApiKeyService:  # noqa: B008
        repository = SqlAlchemyApiKeyRepository(opened)
        await repository.ensure_table(async_engine=engine)
        return ApiKeyService(repo=repository, hasher=hasher)

    async def make() -> list[str]:
        async with sessions() as opened, opened.begin():
            made = await service(opened)
            return [(await made.create(name=f"customer-{n}"))[1] for n in range(OTHER_KEYS[kind])]

    async def make_and_close() -> list[str]:
        keys = await make()
        await engine.dispose()
        return keys

    Path(directory, f"{kind}.keys").write_text("\n".join(asyncio.run(make_and_close())))
    app, security = FastAPI(), create_depends_api_key(service)

    @app.get("/hello")
    async def hello(api_key: Any = Depends(security)) -> dict[str, str]:  # noqa: B008
        return {"message": f"Hello, {api_key.name}!"}

    return app


def _django(kind: str, directory: str, *_: str) -> Any:
    from django.conf import settings

    framework: dict[str, Any] = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}
    if kind == "drf-shared":
        framework["DEFAULT_AUTHENTICATION_CLASSES"] = ["keywright.policy.drf.ApiKeyAuthentication"]
    if kind == "drf-api-key":
        framework["DEFAULT_PERMISSION_CLASSES"] = ["rest_framework_api_key.permissions.HasAPIKey"]
    settings.configure(
        SECRET_KEY="of a benchmark",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["rest_framework", *(["rest_framework_api_key"] if kind == "drf-api-key" else [])],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{directory}/{kind}.db"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        KEYWRIGHT={"SOURCE": SharedReplica(directory), "BUCKET_NAME": BUCKET} if kind == "drf-shared" else {},
        REST_FRAMEWORK=framework,
    )
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()
    if kind == "drf-api-key":
        from django.core.management import call_command
        from django.db import connection, transaction
        from rest_framework_api_key.models import APIKey

        call_command("migrate", verbosity=0)
        with transaction.atomic():
            keys = [APIKey.objects.create_key(name=f"customer-{n}")[1] for n in range(OTHER_KEYS[kind])]
        Path(directory, f"{kind}.keys").write_text("\n".join(keys))
        connection.close()
    from django.urls import path
    from rest_framework.decorators import api_view
    from rest_framework.response import Response

    @api_view()
    def hello(request: Any) -> Any:
        return Response({"message": f"Hello, {getattr(request.user, 'sub', 'customer-10000000')}!"})

    globals()["urlpatterns"] = [path("hello", hello)]
    return application


def _source(kind: str, directory: str, origin: str = "", token: str = "") -> Any:
    if kind == "fastapi-remote":
        return RemoteEdge(origin)
    if kind == "fastapi-embedded":
        pepper = Path(directory, "pepper.key")
        return EmbeddedReplica.from_origin(origin, token=token, directory=f"{directory}-app", pepper_file=pepper)
    return SharedReplica(directory)


_KINDS: dict[str, Callable[..., Any]] = {
    "fastapi": _unprotected,
    "fastapi-passing": _passing,
    "fastapi-shared": _middleware,
    "fastapi-embedded": _middleware,
    "fastapi-remote": _middleware,
    "fastapi-dependency": _dependency,
    "fastapi-keyshield": _keyshield,
    "drf": _django,
    "drf-shared": _django,
    "drf-api-key": _django,
}


def main(port: int, kind: str, *arguments: str) -> None:
    os.environ[VARIABLE] = json.dumps([kind, *arguments])
    serve("protected_apps:create", port, Interfaces.WSGI if kind.startswith("drf") else Interfaces.ASGI)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
