"""Owns the curl examples: an operation as a command line that a POSIX shell runs as it stands.

Credentials are all that it takes from outside, as variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode


@dataclass(frozen=True, slots=True)
class Credential:
    """What one security scheme takes: the scheme, and the shell variable that its value is looked for in."""

    scheme: Mapping[str, Any]
    variable: str


def command(
    method: str,
    url: str,
    *,
    parameters: Iterable[tuple[Mapping[str, Any], Any]],
    credentials: Sequence[Credential],
    media_type: str,
    body: Any,
) -> str:
    """The command. `parameters` come with their example values; what is not required is left out."""
    query: list[tuple[str, str]] = []
    headers: list[str] = []
    for parameter, example in parameters:
        name, value = str(parameter.get("name")), _plain(example)
        if parameter.get("in") == "path":
            url = url.replace(f"{{{name}}}", quote(value, safe=""))
        elif parameter.get("required") is True and parameter.get("in") == "query":
            query.append((name, value))
        elif parameter.get("required") is True and parameter.get("in") == "header":
            headers.append(f"{name}: {value}")
    url += f"?{urlencode(query)}" if query else ""
    verb = {"get": "", "post": "" if media_type else "-X POST ", "head": "-I "}.get(method, f"-X {method.upper()} ")
    lines = [f"curl {verb}{_quoted(url)}", *filter(None, map(_credential, credentials))]
    lines += [f"-H {_quoted(header)}" for header in headers]
    if media_type:
        if '"' not in media_type:
            lines.append(f'-H "Content-Type: {media_type}"')
        text = json.dumps(body, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        lines.append(f"-d {_quoted(text)}")
    return " \\\n  ".join(lines)


def variable_of(scheme_name: str) -> str:
    """`endUserToken` -> `END_USER_TOKEN`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|\W+", "_", scheme_name).upper()


def _credential(credential: Credential) -> str:
    scheme = credential.scheme
    if scheme.get("type") == "http" and str(scheme.get("scheme")).lower() == "bearer":
        return f'-H "Authorization: Bearer ${credential.variable}"'
    if scheme.get("type") == "apiKey" and scheme.get("in") == "header":
        prefix = _quoted(f"{scheme.get('name')}: ")
        return f'-H {prefix}"${credential.variable}"'
    return ""


def _quoted(text: str) -> str:
    """A word for a POSIX shell, always in quotes: nothing in it is a variable or a pattern to the shell."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
