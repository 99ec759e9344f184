"""Owns what the names of accounts, projects, buckets and consumers look like, whoever sends them.

Patterns are whole, from `^` to `$`, as the OpenAPI document shows them: `text.is_whole` compares with one.
"""

from __future__ import annotations

ACCOUNT_NAME = r"^[a-z0-9_-]{1,128}$"
PROJECT_NAME = r"^[a-z0-9-]{1,64}$"
BUCKET_NAME = r"^[a-z0-9-]{5,128}$"
CONSUMER_NAME = r"^[a-z0-9_-]{1,128}$"
