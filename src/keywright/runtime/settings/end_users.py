"""Owns the settings of people: how end users and the provider's own sign in, and what their browsers may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from keywright.domain import roles
from keywright.domain.keyformat import Secret
from keywright.domain.text import is_email
from keywright.runtime.settings import addresses
from keywright.runtime.settings.kinds import SECRET, TEXT, Kind, Part, Setting, listed, whole
from keywright.runtime.settings.reader import Reader, SettingsError

_SERVE = frozenset({Part.SERVE})


def _parse_admin_roles(text: str) -> Mapping[str, roles.Held]:
    return roles.parse(listed(TEXT).parse(text))


_ROLES = Kind("e-mail=role or account:e-mail=role; several with commas between", _parse_admin_roles)


def _parse_audiences(text: str) -> tuple[str, ...]:
    audiences = listed(TEXT).parse(text)
    if text and not audiences:
        raise ValueError("must name audiences with commas between, or be empty")
    return audiences


_AUDIENCES = Kind("text; several with commas between, or empty", _parse_audiences, takes_blank=True)

SESSION_IDLE_MINUTES = Setting(
    name="KEYWRIGHT_SESSION_IDLE_MINUTES",
    kind=whole(5, 44_640),
    default=60,
    shown_default="`60`",
    help="how long a session of a portal may be out of use before it ends (5 to 44640)",
    parts=_SERVE,
)
SESSION_MINUTES = Setting(
    name="KEYWRIGHT_SESSION_MINUTES",
    kind=whole(5, 44_640),
    default=720,
    shown_default="`720`",
    help="how long a session of a portal may last at all (5 to 44640)",
    parts=_SERVE,
)
PUBLIC_URL: Setting[str | None] = Setting(
    name="KEYWRIGHT_PUBLIC_URL",
    kind=addresses.PUBLIC_URL,
    default=None,
    shown_default="`http://` + host and port",
    help="where browsers reach this service: links in mails and the sign-in's way back lead there",
    parts=_SERVE,
)
OIDC_ISSUER: Setting[str | None] = Setting(
    name="KEYWRIGHT_OIDC_ISSUER",
    kind=addresses.ISSUER,
    default=None,
    help="the identity provider of end users, exactly as it calls itself; https, or this machine",
    parts=_SERVE,
)
OIDC_AUDIENCE: Setting[tuple[str, ...] | None] = Setting(
    name="KEYWRIGHT_OIDC_AUDIENCE",
    kind=_AUDIENCES,
    default=None,
    shown_default="the client id",
    help=(
        "for whom users' tokens are meant; several with commas. Set to nothing, no audience is asked for: "
        "then every token of the issuer counts, whatever service it was made for"
    ),
    parts=_SERVE,
)
OIDC_AUTHORIZED_PARTIES = Setting(
    name="KEYWRIGHT_OIDC_AUTHORIZED_PARTIES",
    kind=listed(TEXT),
    default=(),
    help=(
        "clients (`azp`) whose tokens are taken where they are meant for several audiences; several with commas. "
        "The client id and the audiences are always among them"
    ),
    parts=_SERVE,
)
OIDC_CLIENT_ID: Setting[str | None] = Setting(
    name="KEYWRIGHT_OIDC_CLIENT_ID",
    kind=TEXT,
    default=None,
    help="this service at the provider; with it the developer portal signs in there",
    parts=_SERVE,
)
OIDC_CLIENT_SECRET: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_OIDC_CLIENT_SECRET",
    kind=SECRET,
    default=None,
    help="its secret; none for a public client",
    parts=_SERVE,
)
ADMIN_ROLES: Setting[Mapping[str, roles.Held]] = Setting(
    name="KEYWRIGHT_ADMIN_ROLES",
    kind=_ROLES,
    default={},
    help=(
        "who of your own people signs in to the admin portal there: `ada@example.com=admin`, "
        "`account:bo@example.com=viewer`, several with commas; `admin`, `developer` or `viewer`; one in each account"
    ),
    parts=_SERVE,
)
CORS_ORIGINS = Setting(
    name="KEYWRIGHT_CORS_ORIGINS",
    kind=listed(addresses.WEB_ORIGIN),
    default=(),
    help="web pages that may call the Self-serve API: `https://app.example.com`, several with commas, or `*`",
    parts=_SERVE,
)
SELF_SERVE_RATE_LIMIT = Setting(
    name="KEYWRIGHT_SELF_SERVE_RATE_LIMIT",
    kind=whole(0, 1_000_000),
    default=20,
    shown_default="`20`",
    help="Self-serve requests a second per user and worker process; 0 = no limit",
    parts=_SERVE,
)
SMTP_URL: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_SMTP_URL",
    kind=addresses.SMTP_URL,
    default=None,
    shown_default="printed to the console",
    help="`smtps://user:password@host:465` or `smtp://...`; needs `KEYWRIGHT_PUBLIC_URL`",
    parts=_SERVE,
)
MAIL_FROM: Setting[str | None] = Setting(
    name="KEYWRIGHT_MAIL_FROM",
    kind=addresses.MAIL_ADDRESS,
    default=None,
    shown_default="`keywright@` + the public host",
    help="whom mails come from: sign-in links and invites",
    parts=_SERVE,
)


@dataclass(frozen=True, slots=True)
class EndUserSettings:
    """How people sign in: end users, and the provider's own; and what their browsers may do."""

    oidc_issuer: str | None
    oidc_audiences: tuple[str, ...] | None
    """For whom tokens must be meant; None where that is not asked."""
    oidc_authorized_parties: tuple[str, ...]
    """Clients that may hold a token which is meant for others besides us."""
    oidc_client_id: str | None
    oidc_client_secret: Secret | None
    admin_roles: Mapping[str, roles.Held]
    """Who of the provider's own people may use the admin portal, by e-mail address."""
    cors_origins: tuple[str, ...]
    rate_limit: float
    public_url: str
    smtp_url: Secret | None
    mail_from: str

    @classmethod
    def read(cls, reader: Reader, here: str) -> EndUserSettings:
        """`here` is the address that this service listens on. Raises SettingsError."""
        issuer, client_id = reader.get(OIDC_ISSUER), reader.get(OIDC_CLIENT_ID)
        public_url, smtp_url = reader.get(PUBLIC_URL), reader.get(SMTP_URL)
        if smtp_url is not None and public_url is None:
            message = f"{SMTP_URL.name} needs {PUBLIC_URL.name}: where the links in mails lead, such as"
            raise SettingsError(f"{message} https://keys.example.com")
        audiences = reader.get(OIDC_AUDIENCE)
        if audiences is None:
            audiences = (client_id,) if client_id else ()
        elif not audiences:
            # Set to nothing, which is more than not set.
            audiences = None
        if issuer and audiences == ():
            message = f"{OIDC_ISSUER.name} needs {OIDC_AUDIENCE.name} or {OIDC_CLIENT_ID.name}: whom its tokens"
            raise SettingsError(f"{message} are for. A token for somebody else's service would be good here, too.")
        admin_roles = reader.get(ADMIN_ROLES)
        if admin_roles and not (issuer and client_id):
            message = f"{ADMIN_ROLES.name} needs {OIDC_ISSUER.name} and {OIDC_CLIENT_ID.name}"
            raise SettingsError(f"{message}: where these people sign in")
        return cls(
            oidc_issuer=issuer,
            oidc_audiences=audiences,
            oidc_authorized_parties=reader.get(OIDC_AUTHORIZED_PARTIES),
            oidc_client_id=client_id,
            oidc_client_secret=reader.get(OIDC_CLIENT_SECRET),
            admin_roles=admin_roles,
            cors_origins=reader.get(CORS_ORIGINS),
            rate_limit=reader.get(SELF_SERVE_RATE_LIMIT),
            public_url=public_url or here,
            smtp_url=smtp_url,
            mail_from=reader.get(MAIL_FROM) or _mailbox_at(public_url or here),
        )


def _mailbox_at(url: str) -> str:
    host = urlsplit(url).hostname or ""
    # An IPv6 address is no host of a mail address.
    return f"keywright@{host if is_email(f'keywright@{host}') else 'localhost'}"
