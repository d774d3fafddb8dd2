"""Measurements through the public API; `benchmarks/README.md` says what each figure means."""
