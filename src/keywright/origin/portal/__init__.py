"""The door for people: pages. Rules are in service/, rows are never touched here."""
