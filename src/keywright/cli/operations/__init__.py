"""Commands that run a deployment and look after it, from its own settings and files."""
