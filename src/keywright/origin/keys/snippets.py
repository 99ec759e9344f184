"""Owns the examples that show how a key is used: curl, Python and JavaScript, for the provider's own API."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_API_URL = "https://api.example.com"


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    title: str
    code: str


def of(api_url: str | None) -> list[Sample]:
    """The key itself is not in them: it belongs in a variable, not in code. `api_url` was checked when it was set."""
    url = api_url or DEFAULT_API_URL
    return [
        Sample("curl", "curl", f'export API_KEY="your key"\ncurl -H "Authorization: Bearer $API_KEY" {url}'),
        Sample(
            "python",
            "Python",
            "import os\nimport urllib.request\n\n"
            f'request = urllib.request.Request("{url}")\n'
            'request.add_header("Authorization", f"Bearer {os.environ[\'API_KEY\']}")\n'
            "with urllib.request.urlopen(request) as answer:\n    print(answer.read().decode())",
        ),
        Sample(
            "javascript",
            "JavaScript",
            f'const answer = await fetch("{url}", {{\n'
            "  headers: { Authorization: `Bearer ${process.env.API_KEY}` },\n"
            "});\nconsole.log(await answer.text());",
        ),
    ]
