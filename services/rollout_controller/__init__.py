"""Brings an accepted release to the fleet in stages, and back when it fails."""
