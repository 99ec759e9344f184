"""Pieces of HTTP that both planes and the policy share."""
