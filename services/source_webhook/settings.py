"""Settings of the webhook service, from EDGELOOP_ variables."""

from pydantic import Field, SecretStr

from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """Beside what every service takes."""

    webhook_secret: SecretStr = Field(min_length=16, description="Shared with the forges; at least 16 characters")
    webhook_body_limit_bytes: int = Field(default=5 * 1024 * 1024, gt=0, description="A larger body is answered 413")
    webhook_publish_timeout_s: float = Field(default=5, gt=0, description="After this the forge is told to retry")
