"""`edgeloop.yaml`: what a model repository declares about itself.

Editors complete it from `proto/edgeloop.manifest.v1.schema.json`, which is generated from these classes.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from shared.events import Slug
from shared.events.dataset import DatasetRole
from shared.events.lab import Numerics


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a relative path that stays inside its directory")
    return path


RelativePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(_inside)]
"""A path inside the repository, or inside the step's output directory."""


class _Section(BaseModel):
    # Unknown keys are an error in a repository's manifest (the loader forbids them) and not in a release index,
    # where a newer builder may have written a key that this reader does not know.
    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": False})


class Step(_Section):
    """A command of the repository, run in its own process with limits. `python` is the builder's interpreter."""

    command: tuple[str, ...] = Field(min_length=1, description="For example [python, train.py]")
    timeout_s: float = Field(default=600, gt=0, le=86_400)
    inputs: tuple[RelativePath, ...] = Field(
        default=(),
        description="Patterns of the repository's files that the step sees; by default all but documentation",
    )


class Input(_Section):
    """One window of sensor data as the model takes it."""

    shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        min_length=1, description="Without the batch axis; channels last"
    )
    channels: tuple[str, ...] = Field(default=(), description="Names of the last axis, for reports")
    minimum: float = Field(description="Smallest value a healthy sensor gives, after preprocessing")
    maximum: float = Field(description="Largest value a healthy sensor gives, after preprocessing")


class DatasetFile(_Section):
    """An .npz of `x` (rows, *input shape) float32, `y` (rows,) class index, `group` (rows,) person or device."""

    path: RelativePath
    role: DatasetRole = DatasetRole.BASELINE


class Data(_Section):
    """The step that writes the datasets, and where it leaves them."""

    prepare: Step | None = Field(
        default=None,
        description="Writes the files below into $EDGELOOP_OUTPUT_DIR; without it they are the repository's own",
    )
    train: DatasetFile
    test: DatasetFile
    more: tuple[DatasetFile, ...] = Field(default=(), description="Other datasets, kept with the release by role")


class Model(_Section):
    """Where the model comes from: a step that trains it, or a file of the repository. Its ending says its format."""

    train: Step | None = Field(default=None, description="Writes `path` into $EDGELOOP_OUTPUT_DIR")
    path: RelativePath = Field(default="model.keras", description="What `train` writes")
    file: RelativePath | None = Field(default=None, description="A model that is in the repository, instead of `train`")
    seed: int = Field(default=0, ge=0)
    numerics: Numerics = Field(default=Numerics.TFLM, description="Whose rounding the firmware reproduces bit by bit")


class Preprocessing(_Section):
    """The code that turns what a sensor gives into what the model takes, kept with the release."""

    files: tuple[RelativePath, ...] = Field(min_length=1)


class Licences(_Section):
    """SPDX licence expressions, for the bill of materials."""

    code: str | None = Field(default=None, description="For example Apache-2.0")
    data: str | None = Field(default=None, description="For example CC-BY-4.0")
    model: str | None = Field(default=None, description="For example Apache-2.0 AND CC-BY-4.0")


class Budget(_Section):
    """What a firmware may take of its board; the board's own size is always a limit too."""

    flash_bytes: int | None = Field(default=None, gt=0)
    ram_bytes: int | None = Field(default=None, gt=0, description="Static RAM plus the stack's high-water mark")
    latency_ms: float | None = Field(default=None, gt=0, description="Of one inference, modelled from instructions")
    energy_uj: float | None = Field(default=None, gt=0, description="Of one inference, modelled from instructions")


class Gates(_Section):
    """What a release must reach before a fleet sees it."""

    accuracy: float = Field(ge=0, le=1, description="Smallest accuracy on the test set, int8, top-1")
    accuracy_loss: float = Field(default=0.03, ge=0, le=1, description="Largest accuracy lost between float32 and int8")
    agreement: float = Field(default=0.9, ge=0, le=1, description="Smallest share of equal float32 and int8 answers")
    minimum_rows: int = Field(default=30, gt=0, description="Below this a verdict is insufficient evidence")
    instructions_growth: float | None = Field(
        default=None,
        ge=0,
        description="Most that an inference's instructions may grow from one accepted release to the next, such as "
        "0.001; without it, growth is said and stops nothing",
    )


class Stage(_Section):
    """A share of the fleet: a count of devices or a percentage, cumulative."""

    name: Slug
    devices: int | None = Field(default=None, gt=0)
    percent: float | None = Field(default=None, gt=0, le=100)
    soak_s: float = Field(default=0, ge=0, description="How long to watch after the last device is verified")


class Rollout(_Section):
    """Who gets a release when, and when to stop."""

    stages: tuple[Stage, ...] = (
        Stage(name="canary", devices=2),
        Stage(name="quarter", percent=25),
        Stage(name="all", percent=100),
    )
    failure_budget: float = Field(default=0.05, ge=0, lt=1, description="Share of a stage that may fail")
    install_deadline_s: float = Field(default=120, gt=0)


class Drift(_Section):
    """When the monitor calls it drift."""

    psi_threshold: float = Field(default=0.5, gt=0, description="Population stability index of the worst input channel")
    minimum_windows: int = Field(default=200, gt=0, description="Below this a verdict is insufficient evidence")
    minimum_devices: int = Field(default=3, gt=0)
    minimum_production_rows: int = Field(default=100, gt=0, description="Labelled rows that retraining waits for")


class Manifest(_Section):
    """The whole of `edgeloop.yaml`."""

    version: Literal[1] = Field(description="Version of this format")
    name: str = Field(min_length=1, description="For people: the project's slug comes from the repository")
    release: str = Field(default="1.0.0", pattern=r"^\d+\.\d+\.\d+$", description="Version of the firmware image")
    security_counter: int | None = Field(
        default=None,
        ge=0,
        lt=2**32,
        description="MCUboot's, against downgrades; by default major << 24 | minor << 16 | revision of `release`",
    )
    labels: tuple[str, ...] = Field(min_length=2)
    input: Input
    data: Data
    model: Model
    preprocessing: Preprocessing | None = None
    tests: Step | None = Field(default=None, description="The repository's tests; $EDGELOOP_MODEL_DIR has the model")
    licences: Licences = Licences()
    boards: tuple[Slug, ...] = Field(min_length=1, description="Names from the board catalogue")
    budgets: dict[Slug, Budget] = Field(default_factory=dict, description="By board")
    gates: Gates
    rollout: Rollout = Rollout()
    drift: Drift = Drift()
