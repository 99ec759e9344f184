"""A small identity provider for tests: real HTTP, real signatures, and a switch for everything that can go wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

AUDIENCE = "keywright-tests"
CLIENT_ID = "developer-portal"
CLIENT_SECRET = "secret of the developer portal"
KINDS = {"RS": lambda: RSAKey.generate_key(2048), "ES": lambda: ECKey.generate_key("P-256"),
         "Ed": lambda: OKPKey.generate_key("Ed25519")}  # fmt: skip

ADA = {"sub": "auth0|ada", "email": "ada@example.com", "email_verified": True}
BOB = {"sub": "auth0|bob", "email": "bob@example.com", "email_verified": True}


@dataclass
class IdentityProvider:
    """`broken` maps a path to the status and body that it answers instead of the truth."""

    url: str
    keys: dict[str, Key] = field(default_factory=dict)
    broken: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    user: dict[str, Any] = field(default_factory=lambda: dict(ADA))
    """Whoever signs in at the moment."""
    id_token_changes: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] | None = None
    """What it says to whoever shows a token, of the user that the token names; None for nothing at all."""
    shown: list[str] = field(default_factory=list)
    """The Authorization headers that userinfo was asked with."""
    answered_issuer: str | None = None
    """Another issuer than its own, named when a browser is sent back."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def add_key(self, kid: str, kind: str = "RS") -> None:
        self.keys[kid] = KINDS[kind]()

    def token(self, user: dict[str, Any] = ADA, /, *, kid: str = "first", alg: str = "RS256", **claims: Any) -> str:
        """A token for a user; a claim that is given as None is left out."""
        now = int(time.time())
        all = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + 600, **user, **claims}
        kept = {name: value for name, value in all.items() if value is not None}
        return self.sign(kept, {"alg": alg, "kid": kid}, self.keys[kid])

    @staticmethod
    def sign(claims: dict[str, Any], header: dict[str, Any], key: Key) -> str:
        return jws.serialize_compact(header, json.dumps(claims), key, algorithms=[header["alg"]])

    def published_keys(self) -> dict[str, Any]:
        return {"keys": [{**key.as_dict(private=False), "kid": kid} for kid, key in self.keys.items()]}

    def answer(self, path: str) -> tuple[int, bytes]:
        if path in self.broken:
            return self.broken[path]
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps(
                {
                    "issuer": self.url,
                    "jwks_uri": f"{self.url}/jwks",
                    "authorization_endpoint": f"{self.url}/authorize",
                    "token_endpoint": f"{self.url}/token",
                    "userinfo_endpoint": f"{self.url}/userinfo",
                    "end_session_endpoint": f"{self.url}/logout",
                    "authorization_response_iss_parameter_supported": True,
                }
            ).encode()
        if path == "/userinfo":
            return (401, b"{}") if self.userinfo is None else (200, json.dumps(self.userinfo).encode())
        if path == "/jwks":
            return 200, json.dumps(self.published_keys()).encode()
        return 404, b"{}"

    def authorize(self, query: dict[str, str]) -> str:
        """Signs its user in without asking, and says where the browser is to go."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        back = {"code": code, "state": query["state"], "iss": self.answered_issuer or self.url}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, bytes]:
        """A code for tokens, once, to the client and for the verifier that the code was made for."""
        asked = self.codes.pop(form.get("code", ""), None)
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET.replace(' ', '+')}".encode()).decode()
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        if asked is None or authorization != f"Basic {expected}" or asked["code_challenge"] != challenge:
            return 400, b'{"error": "invalid_grant"}'
        if asked["redirect_uri"] != form.get("redirect_uri"):
            return 400, b'{"error": "invalid_grant"}'
        kid = next(iter(self.keys))
        claims = {"aud": CLIENT_ID, "nonce": asked["nonce"], **self.id_token_changes}
        id_token = self.token(self.user, kid=kid, **claims)
        return 200, json.dumps({"access_token": "opaque", "token_type": "Bearer", "id_token": id_token}).encode()


@contextmanager
def running() -> Iterator[IdentityProvider]:
    """A provider on a port of its own, with one RSA key named `first`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.provider = provider = IdentityProvider(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    provider.add_key("first")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    @property
    def provider(self) -> IdentityProvider:
        return self.server.provider  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.provider.asked.append(parts.path)
        if parts.path == "/userinfo":
            self.provider.shown.append(self.headers.get("authorization", ""))
        if parts.path == "/authorize" and parts.path not in self.provider.broken:
            self._send(302, b"", location=self.provider.authorize(dict(parse_qsl(parts.query))))
        else:
            self._send(*self.provider.answer(parts.path))

    def do_POST(self) -> None:
        self.provider.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if self.path in self.provider.broken:
            self._send(*self.provider.broken[self.path])
        else:
            self._send(*self.provider.exchange(form, self.headers.get("authorization", "")))

    def _send(self, status: int, body: bytes, *, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
