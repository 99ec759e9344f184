"""The kinds of places where keys are left lying, each written with a key in it."""

from __future__ import annotations

PLACES: dict[str, str] = {
    "production.env": "DEBUG=0\nORDERS_API_KEY={key}\nPORT=80\n",
    "neutral.env": "X={key}\n",
    "exported.sh": "#!/bin/sh\nexport K='{key}'\ncurl https://api.example.com\n",
    "curl.sh": 'curl -H "Authorization: Bearer {key}" https://api.example.com/orders\n',
    "curl-header.sh": "curl -H 'X-API-Key: {key}' https://api.example.com/orders\n",
    "bare.txt": "{key}\n",
    "prose.md": "If it asks for a password, type {key}, and then press enter.\n",
    "link.md": "[the orders](https://api.example.com/orders?apikey={key}&page=2)\n",
    "encoded.txt": "https://login.example.com/?next=%2Forders%3Fkey%3D{key}%26page%3D2\n",
    "body.json": '{{"url": "https://api.example.com", "key": "{key}"}}\n',
    "escaped.json": '{{"env": "DEBUG=0\\n{key}\\nPORT=80"}}\n',
    "values.yaml": "orders:\n  url: https://api.example.com\n  credential: {key}\n",
    "compose.yml": "services:\n  app:\n    environment:\n      - A={key}\n",
    "settings.toml": '[orders]\nvalue = "{key}"\n',
    "app.properties": "orders.value={key}\n",
    "settings.ini": "[orders]\nvalue: {key} ; of the shop\n",
    "client.py": 'client = Client("https://api.example.com", "{key}")\n',
    "client.js": "const client = new Client({{ v: '{key}' }});\n",
    "main.tf": 'variable "v" {{\n  default = "{key}"\n}}\n',
    "Dockerfile": "FROM scratch\nENV V {key}\n",
    "config.xml": "<orders><value>{key}</value></orders>\n",
    "rows.csv": "1,shop,{key},2026-11-29\n",
    "dump.sql": "INSERT INTO t VALUES (1, '{key}', NULL);\n",
    "access.log": '192.0.2.7 - - [29/Nov/2026:12:00:00 +0000] "GET /orders?v={key} HTTP/1.1" 200 512\n',
    "page.html": '<input type="hidden" value="{key}">\n',
}
"""By the name of a file. `{key}` is the key."""

OF_OTHERS = (
    "my_{key}", "x{key}", "{key}0", "{key}_a", "{upper}", "{short}",
)  # fmt: skip
"""What is no key with the prefix of `{key}`, or none at all."""
