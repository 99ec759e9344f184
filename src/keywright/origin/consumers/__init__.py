"""Consumers of a bucket, and those who manage them."""
