"""Taking in what edges have counted, once and only once."""
