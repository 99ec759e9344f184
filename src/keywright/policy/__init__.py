"""The API Key Authentication policy, for other people's apps. Imports neither origin nor edge."""
