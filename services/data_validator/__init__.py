"""Judges the data a release was trained on and is judged by."""
