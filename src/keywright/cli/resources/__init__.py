"""Commands that manage what the Developer API has: one file a noun."""
