"""The only layer that imports redis: connection, scripts and verbs, keys, the embedded server, secrets."""
