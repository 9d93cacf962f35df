"""What every service can be told through its environment."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class BaseServiceSettings(BaseSettings):
    """Settings common to all services; each service's own class adds to them. Every variable begins EDGELOOP_."""

    model_config = SettingsConfigDict(env_prefix="EDGELOOP_", frozen=True, extra="ignore")

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="The bus")
    data: Path = Field(default=Path(".edgeloop"), description="Where state lives on this machine")
    database_url: str | None = Field(default=None, description="SQLAlchemy URL; none: an SQLite file below `data`")
    http_host: str = Field(default="127.0.0.1", description="Address of /healthz, /readyz and /metrics")
    http_port: int = Field(default=0, ge=0, le=65535, description="0: any free one, written to run/<service>.json")
    log_style: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    connect_deadline_s: float = Field(default=10, gt=0, description="How long to wait for the bus at start")

    def database_of(self, service: str) -> str:
        """Return the SQLAlchemy URL of the service's database."""
        return self.database_url or f"sqlite:///{self.data / f'{service}.db'}"


def wrong_variables(error: ValidationError) -> str:
    """Return which variables of the environment are wrong, and why."""
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(f"EDGELOOP_{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in problems)
