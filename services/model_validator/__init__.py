"""Judges a release's model: accuracy, what quantisation cost, and whether it fits its boards."""
