"""The provider's own credentials: management keys of an account and owner keys of a bucket."""
