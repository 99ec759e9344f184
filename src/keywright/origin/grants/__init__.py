"""Grants: buckets that are shared with other accounts, and until when."""
