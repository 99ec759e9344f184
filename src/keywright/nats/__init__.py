"""The NATS broker: its connection and what is kept there. The one package that knows the client's library."""
