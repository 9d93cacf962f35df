"""What a gateway is told through its environment."""

from pathlib import Path

from pydantic import Field

from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """EDGELOOP_ variables of the gateway."""

    gateway_config: Path = Field(description="gateway.yaml")
    verify_key: Path | None = Field(
        default=None, description="Public release key: images it did not sign are refused; none: boards check alone"
    )
    state_period_s: float = Field(default=2.0, gt=0, description="Between two reads of a board's image state")
    telemetry_period_s: float = Field(default=1.0, gt=0, description="Between two telemetry batches")
    report_period_s: float = Field(
        default=300.0, gt=0, description="A board's state is said again after this long; changes are said at once"
    )
    lost_after_s: float = Field(default=10.0, gt=0, description="Silence after which a board counts as lost")
