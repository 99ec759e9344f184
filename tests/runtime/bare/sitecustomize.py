"""What test_extras.py puts on the path of a process: one in which no extra is installed."""

import sys

sys.modules.update(dict.fromkeys(("asyncpg", "nats", "nkeys", "nacl", "grpc")))  # type: ignore[arg-type]
