"""Owns logs and metrics. A secret can't get into a log: every record passes a filter that masks what looks like one."""
