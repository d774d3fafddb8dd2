"""One driver for each peer; each runs in an interpreter of its own."""
