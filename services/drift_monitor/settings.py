"""Settings of the drift monitor, from EDGELOOP_ variables."""

from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """Nothing of its own: the policy is in the repository's edgeloop.yaml."""
