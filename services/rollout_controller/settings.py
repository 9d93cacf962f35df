"""Settings of the rollout controller, from EDGELOOP_ variables."""

from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """Nothing of its own: the policy of a rollout is in the repository's edgeloop.yaml."""
