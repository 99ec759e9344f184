"""The rules: what may be done, by whom, and what follows. Every door (API, portal, self-serve, CLI) enters here."""
