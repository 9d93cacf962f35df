"""Runs validated releases on boards before any fleet sees them."""
