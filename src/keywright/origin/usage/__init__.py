"""Usage: what keys did, as edges have counted it."""
