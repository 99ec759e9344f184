"""The API Key Authentication policy, for other people's apps. Never imports origin or edge, nor what an app may not have."""
