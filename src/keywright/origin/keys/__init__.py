"""Keys of a consumer: made, shown, changed, rolled, revoked; and how retrievable ones are sealed."""
