"""What an operator can set, as EDGELOOP_… variables. The policy is in the repository's manifest."""

from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """What every service takes; nothing of its own."""
