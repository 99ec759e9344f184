"""Quotas: how much of each is spent, lent to edges in leases, and left."""
