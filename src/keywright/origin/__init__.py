"""The control plane: the truth, every change, the Developer API. Never imports the edge."""
