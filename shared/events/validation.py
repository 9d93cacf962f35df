"""What the two validators say of a release."""

from typing import ClassVar

from shared.events._base import Check, Digest, Payload


class _Verdict(Payload):
    digest: Digest
    checks: tuple[Check, ...]


class DataValidated(_Verdict):
    """The release's datasets passed every check."""

    TYPE: ClassVar[str] = "validation.data_validated.v1"


class DataRejected(_Verdict):
    """At least one check of the datasets did not pass."""

    TYPE: ClassVar[str] = "validation.data_rejected.v1"


class ModelValidated(_Verdict):
    """The release's model passed every gate."""

    TYPE: ClassVar[str] = "validation.model_validated.v1"


class ModelRejected(_Verdict):
    """At least one gate of the model did not pass."""

    TYPE: ClassVar[str] = "validation.model_rejected.v1"
