"""The door for programs: the Developer API under /v1. Shapes and addresses only; every rule is in service/."""
