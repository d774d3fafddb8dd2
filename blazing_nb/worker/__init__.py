"""The worker: claims, executes, commits. Imports `store` and below, never `client` or `notebook`."""
