"""What both planes stand on: settings, logs, the server, secret files, the ends of tasks. Knows of no key."""
