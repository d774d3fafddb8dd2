"""What the queue is, as pure code: no I/O, no clock, no randomness. Imports `errors` only."""
