"""What a process of virtual boards is told."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from ruamel.yaml import YAML

from shared.boards import image_board
from shared.events import Slug


class BoardEntry(BaseModel):
    """One board to host."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    board: Slug = Field(description="Name in the board catalogue")

    @model_validator(mode="after")
    def _is_in_the_catalogue(self) -> "BoardEntry":
        image_board(self.board)
        return self


class VirtualConfig(BaseModel):
    """The file that EDGELOOP_VIRTUAL_CONFIG names, YAML or JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: Slug
    boards: tuple[BoardEntry, ...] = Field(min_length=1)
    flash: Path = Field(description="Directory of the boards' flash files, ports and the factory's key")
    state: Path = Field(description="Where to write what is running where, once it is: pid, HTTP address, boards")
    verify_key: Path | None = Field(default=None, description="Public release key; none: factory firmware only")
    world: Path | None = Field(default=None, description=".npz of sensor data to play; none: sensors are silent")
    period_s: float = Field(default=0.5, gt=0, description="Between two windows of one board")
    seed: int = Field(default=0, ge=0, description="Of the order in which windows are played")
    http_port: int = Field(default=0, ge=0, le=65535)

    @model_validator(mode="after")
    def _names_are_unique(self) -> "VirtualConfig":
        names = [entry.id for entry in self.boards]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"boards: {', '.join(twice)} named twice; every id must be unique")
        return self

    @classmethod
    def read(cls, path: Path) -> "VirtualConfig":
        """Read the file.

        Raises:
            pydantic.ValidationError: a key is missing, unknown or wrong.
        """
        return cls.model_validate(YAML(typ="safe").load(path))


class VirtualSettings(BaseSettings):
    """The environment of `python -m device_gateway.virtual`."""

    model_config = SettingsConfigDict(env_prefix="EDGELOOP_", frozen=True, extra="ignore")

    virtual_config: Path
