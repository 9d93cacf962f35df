"""Turns the push webhooks of git forges into `SourcePushed` events."""
