"""The record: engines, transactions, the order of commits, tables and migrations."""
