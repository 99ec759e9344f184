"""A deployment's own life: the first start, the pepper it was born with, new master keys."""
