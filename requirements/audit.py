"""Looks up advisories for everything that is pinned, with pip-audit, and tells a finding from not having looked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOUND, NOT_LOOKED = 1, 2
SECONDS = 300
HERE = Path(__file__).parent


def look_up(path: Path) -> list[dict[str, object]] | None:
    """The packages of a file that have advisories; None where nobody could be asked."""
    command = [Path(sys.executable).with_name("pip-audit"), "--requirement", path, "--require-hashes", "--disable-pip"]
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off", "--timeout", "10"],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        said = done.stderr.strip().splitlines() if isinstance(error, json.JSONDecodeError) else [f"{SECONDS} s passed"]
        print(f"{path.name}: {said[-1][:300] if said else 'pip-audit said nothing'}", file=sys.stderr)
        return None
    return [package for package in packages if package.get("vulns")]


def main() -> int:
    worst = 0
    for path in sorted(HERE.glob("*.txt")):
        found = look_up(path)
        if found is None:
            print(
                "NOT LOOKED UP: the advisories can't be reached from here. Run `make audit` where there is a network."
            )
            return NOT_LOOKED
        for package in found:
            for advisory in package["vulns"]:  # type: ignore[attr-defined]
                fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
                print(f"{path.name}: {package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
                worst = FOUND
        print(f"{path.name}: {len(found)} of its packages have advisories")
    return worst


if __name__ == "__main__":
    sys.exit(main())
