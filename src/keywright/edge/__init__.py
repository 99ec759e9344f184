"""The data plane: answers validations from its own disk, a replica of digests and consumers. Never imports origin."""
