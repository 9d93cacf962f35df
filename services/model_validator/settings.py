"""Settings of the model validator, from EDGELOOP_ variables."""

from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """Nothing of its own: the gates are in the repository's edgeloop.yaml."""
