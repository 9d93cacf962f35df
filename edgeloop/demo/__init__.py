"""The whole loop in one command: push, roll out, drift, retrain, roll out again."""
