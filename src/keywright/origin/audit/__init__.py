"""The audit log: who did what, when, and what was refused."""
