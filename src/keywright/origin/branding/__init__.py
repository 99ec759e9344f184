"""How the developer portal of a bucket looks."""
