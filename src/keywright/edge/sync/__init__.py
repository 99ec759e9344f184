"""Keeping a replica in step with the record: feeds, the loop, leader election, reporting."""
