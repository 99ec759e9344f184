"""Accounts and their projects."""
