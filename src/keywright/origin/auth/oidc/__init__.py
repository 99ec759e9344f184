"""The identity provider of the end users: what it publishes, the tokens that it signs, and signing in with it.

`provider` asks it over HTTP and remembers the answers, `tokens` judges a token by them, `authorization` speaks the
authorization code flow, and `flow` leads a browser there and back. Nothing here knows of buckets or of the record.
"""
