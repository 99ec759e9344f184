"""A deployment with enough in it to fill every page of the admin portal, and the list of those pages."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from keywright.domain.models import to_iso
from keywright.protocol.reports import EdgeState, Report, ReportSigner
from keywright.runtime import secret_files
from support.identity import ADA, CLIENT_ID, CLIENT_SECRET
from support.process import NO_TLS, ServeProcess

ROOT_KEY = "root-key-of-the-tested-deployment"
ACCOUNT = "/admin/accounts/my-account"
BUCKET = ACCOUNT + "/buckets/my-project-production"

COMPANIES = (
    "acme-inc", "blue-harbor", "cedar-labs", "delta-freight", "ember-studio", "fjord-systems", "glasswing", "hillcrest",
    "ironbark", "juniper-pay", "kestrel-air", "lumen-works", "mossy-oak", "northwind", "orchard-bank", "papertrail",
)  # fmt: skip


BURST = {"name": "burst", "limit": 20, "windowSeconds": 1, "scope": "edge"}
PLANS: tuple[dict[str, Any], ...] = (
    {"name": "internal", "description": "Our own services", "scopes": ["*"]},
    {"name": "free", "rateLimits": [{"name": "per-minute", "limit": 60, "windowSeconds": 60}]},
    {
        "name": "gold",
        "description": "For paying customers",
        "scopes": ["orders:*", "invoices:*", "customers:read"],
        "rateLimits": [{"name": "per-minute", "limit": 6000, "windowSeconds": 60}, BURST],
        "quotas": [
            {"name": "calls", "limit": 100_000, "period": "month", "timeZone": "Europe/Berlin", "anchor": 15},
            {"name": "exports", "limit": 50, "period": "day", "defaultCost": 5},
        ],
    },
)


def served(data_dir: Path, issuer: str) -> ServeProcess:
    """A service with the root key, where Ada of the test's identity provider is a developer."""
    return ServeProcess(
        data_dir,
        KEYWRIGHT_BOOTSTRAP_KEY=ROOT_KEY,
        KEYWRIGHT_OIDC_ISSUER=issuer,
        KEYWRIGHT_OIDC_CLIENT_ID=CLIENT_ID,
        KEYWRIGHT_OIDC_CLIENT_SECRET=CLIENT_SECRET,
        KEYWRIGHT_ADMIN_ROLES=f"{ADA['email']}=developer",
    )


@dataclass
class Portal:
    """A running service with the root key, spoken to through the API."""

    process: ServeProcess

    @property
    def url(self) -> str:
        return self.process.url

    def call(self, method: str, path: str, *, key: str = ROOT_KEY, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx2.request(
            method, f"{self.url}/v1/accounts{path}", headers=headers, timeout=30, verify=NO_TLS, **options
        )
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def report(self, name: str, token: str) -> str:
        """An edge without a snapshot tells of itself, and that it answers for no key from then on; its id."""
        now = time.time_ns() // 1_000_000
        state = EdgeState.STARTING
        report = Report(
            "none", f"instance-of-{name:->16}", "0" * 16, now, name, "us-east", "0.1.0", state, now, None, None, 0
        )
        signer = ReportSigner(secret_files.load_digester(None, self.process.data_dir / "pepper.key"))
        url, headers = f"{self.url}/v1/feed/acknowledgements", {"Authorization": f"Bearer {token}"}
        assert (
            httpx2.post(url, headers=headers, content=signer.encode(report), timeout=30, verify=NO_TLS).status_code
            == 200
        )
        return report.instance

    def new_management_key(self, description: str = "For a test", /, **permissions: Any) -> str:
        body = {"description": description, "permissions": permissions}
        return str(self.call("POST", "/my-account/management-keys", json=body)["key"])


def fill(portal: Portal) -> dict[str, str]:
    """Puts things into the deployment; the addresses of the pages by name."""
    soon = to_iso(datetime.now(UTC) + timedelta(days=12))
    consumers = "/my-account/key-buckets/my-project-production/consumers"
    token = portal.new_management_key("Gateways in Frankfurt", buckets={"*": "validate"}, feed=True)
    edge = portal.report("virginia-of-last-year", token)
    plans = "/my-account/key-buckets/my-project-production/plans"
    for plan in PLANS:
        portal.call("POST", plans, json=plan)
    for index, name in enumerate(COMPANIES):
        body = {
            "name": name,
            "description": f"{name.replace('-', ' ').title()}, since 20{10 + index}" if index % 3 else None,
            "tags": {"plan": ("gold", "silver", "free")[index % 3], **({"region": "eu"} if index % 2 else {})},
            "metadata": {"plan": "gold", "orgId": f"org_{index}", "limits": {"perMinute": 600}},
            "managers": [{"email": f"ada@{name}.example", "sub": f"user-{index}"}, {"email": f"bob@{name}.example"}],
            "scopes": ["orders:*", "invoices:*"],
            "plan": (None, "gold", "free")[index % 3],
            "rateLimits": [BURST] if index == len(COMPANIES) - 2 else None,
            "enabled": index != 2,
        }
        portal.call("POST", consumers + "?with-api-key=true", json=body)
    first = f"{consumers}/{COMPANIES[-1]}"
    portal.call("POST", f"{first}/keys", json={"description": "Nightly export", "expiresOn": soon})
    portal.call("PATCH", first, json={"plan": "gold"})
    narrow = {"rateLimits": [{"name": "per-hour", "limit": 1000, "windowSeconds": 3600}]}
    narrow |= {"scopes": ["orders:read", "invoices:*"], "allowedIps": ["192.0.2.0/24", "2001:db8::/32"]}
    made = portal.call("POST", f"{first}/keys", json={"description": "Mobile app", **narrow, "enabled": False})
    portal.call("POST", "", json={"name": "partner-account"})
    portal.call("POST", "/my-account/projects", json={"name": "payments"})
    grants = "/my-account/key-buckets/my-project-production/grants"
    portal.call("POST", grants, json={"account": "partner-account", "access": "read"})
    archive = {"name": "archive-2025", "description": "Kept for the auditors", "tags": {"team": "legal"}}
    portal.call("POST", "/my-account/key-buckets", json={**archive, "isRetrievable": False})
    portal.new_management_key("CI deployments", account="write")
    key = f"{BUCKET}/consumers/{COMPANIES[-1]}/keys/{made['id']}"
    return {
        "accounts": "/admin/accounts",
        "account-new": "/admin/new-account",
        "buckets": f"{ACCOUNT}/buckets",
        "buckets-none-fits": f"{ACCOUNT}/buckets?project=none-such",
        "bucket-new": f"{ACCOUNT}/buckets/new",
        "project-new": f"{ACCOUNT}/projects/new",
        "project-delete": f"{ACCOUNT}/projects/payments/delete",
        "consumers": BUCKET,
        "consumers-none": f"{ACCOUNT}/buckets/archive-2025",
        "consumers-none-fits": f"{BUCKET}?by=name&q=none-such",
        "plans": f"{BUCKET}/plans",
        "plans-none": f"{ACCOUNT}/buckets/archive-2025/plans",
        "plan-new": f"{BUCKET}/plans/new",
        "plan-edit": f"{BUCKET}/plans/gold/edit",
        "plan-delete": f"{BUCKET}/plans/gold/delete",
        "consumer-new": f"{BUCKET}/consumers/new",
        "consumer-edit-limits": f"{BUCKET}/consumers/{COMPANIES[-2]}/edit",
        "consumer": f"{BUCKET}/consumers/{COMPANIES[-1]}",
        "usage": f"{BUCKET}/usage",
        "consumer-usage": f"{BUCKET}/consumers/{COMPANIES[-1]}/usage",
        "consumer-edit": f"{BUCKET}/consumers/{COMPANIES[-1]}/edit",
        "quota-top-up": f"{BUCKET}/consumers/{COMPANIES[-1]}/quotas/calls/top-up",
        "consumer-delete": f"{BUCKET}/consumers/{COMPANIES[-1]}/delete",
        "key-new": f"{BUCKET}/consumers/{COMPANIES[-1]}/keys/new",
        "key-edit": f"{key}/edit",
        "key-revoke": f"{key}/revoke",
        "roll": f"{BUCKET}/consumers/{COMPANIES[-1]}/roll",
        "sharing": f"{BUCKET}/sharing",
        "sharing-end": f"{BUCKET}/sharing/partner-account/end",
        "owner-keys": f"{BUCKET}/owner-keys",
        "owner-key-new": f"{BUCKET}/owner-keys/new",
        "settings": f"{BUCKET}/settings",
        "self-serve": f"{BUCKET}/self-serve",
        "portal-looks": f"{BUCKET}/portal",
        "bucket-delete": f"{BUCKET}/delete",
        "management-keys": f"{ACCOUNT}/management-keys",
        "management-key-new": f"{ACCOUNT}/management-keys/new",
        "audit-log": f"{ACCOUNT}/audit-log",
        "audit-log-none-fits": f"{ACCOUNT}/audit-log?action=none-such",
        "edges": f"{ACCOUNT}/edges",
        "edge-retire": f"{ACCOUNT}/edges/{edge}/retire",
        "not-found": f"{ACCOUNT}/buckets/none-such",
    }


def sign_in(page: Any, key: str = ROOT_KEY) -> None:
    page.goto("/admin/sign-in")
    page.get_by_label("Management key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/buckets")
