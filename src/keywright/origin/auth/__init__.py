"""Who acts: management keys, sessions of the portals, e-mail links, the identity provider."""
