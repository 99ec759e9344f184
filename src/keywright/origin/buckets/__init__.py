"""Buckets: their life, and sharing them with other accounts."""
