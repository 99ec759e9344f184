"""The NATS broker, as both planes use it: the connection, JetStream's streams, and what is kept under which names."""
