"""Owns what is known of a server before anybody is connected: its parts, what TLS believes, how it is asked."""

from __future__ import annotations

import os
import platform
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._~-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._~-]+)?")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
# Where systems keep their certificates; OpenSSL's own place may be another one, with nothing in it.
_CERTIFICATES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """`host` is a name (IDNA) or an address, as TLS and the resolver take it; `path` is what all paths begin with."""

    host: str
    port: int
    path: str
    is_tls: bool

    @property
    def host_header(self) -> str:
        # RFC 6874 section 1: a zone is of this machine alone.
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.is_tls else "http"] else f"{host}:{self.port}"


def parse(url: str) -> ServerAddress:
    """Raises ValueError for what is no address of a server, or says more than that."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("not the address of a server")
    # Also of ASCII alone: what the resolver would stumble over.
    host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    if _HOST.fullmatch(host) is None or parts.port == 0:
        raise ValueError("not the address of a server")
    path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    return ServerAddress(host, parts.port or _PORTS[parts.scheme], path, parts.scheme == "https")


def head(address: ServerAddress, fields: Mapping[str, str]) -> bytes:
    """What is the same in each question, after its first line. Raises ValueError for a value that can't be sent."""
    for name, value in fields.items():
        if _VALUE.fullmatch(value) is None:
            raise ValueError(f"the value for {name} can't be sent in a header")
    lines = {"host": address.host_header, "accept-encoding": "identity", **fields}
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()


def new_tls_context() -> ssl.SSLContext:
    """What believes those whom the system believes. Reads all their certificates, which takes a while.

    The environment has no say in it: `SSL_CERT_FILE` is for the application's own business.
    """
    if platform.system() in ("Windows", "Darwin"):
        return _platform_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    paths = ssl.get_default_verify_paths()
    file = paths.openssl_cafile if os.path.isfile(paths.openssl_cafile) else None
    directory = paths.openssl_capath if os.path.isdir(paths.openssl_capath) else None
    if directory and not file and not any(re.fullmatch(r"[0-9a-f]{8}\.\d", name) for name in os.listdir(directory)):
        directory = None
    if not file and not directory:
        file = next(filter(os.path.isfile, _CERTIFICATES), None)
    if file or directory:
        context.load_verify_locations(file, directory)
    return context


def _platform_context() -> ssl.SSLContext:
    """There the system's own store is asked, which OpenSSL knows nothing of, by who has what it takes."""
    try:
        import truststore
    except ImportError:
        return ssl.create_default_context()
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
