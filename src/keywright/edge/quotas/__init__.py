"""Quotas at an edge: borrowed in blocks from the origin's ledger, and spent by all processes on a replica together."""
