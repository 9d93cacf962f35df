"""Settings of the data validator, from EDGELOOP_ variables."""

from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """Nothing of its own: what is judged by is in the repository's edgeloop.yaml."""
