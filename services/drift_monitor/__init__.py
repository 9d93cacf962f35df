"""Compares what boards see with what their model was trained on, and asks for retraining."""
