"""Benchmarks of a model on a board, as a user runs them: no bus, no service."""
