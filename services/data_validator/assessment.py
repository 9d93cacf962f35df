"""From a release's dataset files to the answers of all checks: what the service and `edgeloop check` do alike."""

from collections.abc import Sequence

from services.data_validator.domain import Evidence, judge
from shared.events import Check, CheckOutcome
from shared.releases.datasets import DatasetError, read_dataset
from shared.releases.release import Release


def assess(release: Release, blobs: Sequence[bytes]) -> tuple[Check, ...]:
    """Judge train, test and production datasets, .npz in this order. A file that cannot be read is a failed check."""
    names = ["train", "test", *(f"production[{index}]" for index in range(len(blobs) - 2))]
    try:
        train, test, *production = (read_dataset(data, name=name) for name, data in zip(names, blobs, strict=True))
    except DatasetError as error:
        unreadable = Check(
            name="dataset-format",
            outcome=CheckOutcome.FAILED,
            observed=str(error),
            allowed="an .npz of x (rows, *input shape) float32, y (rows,) class index and group (rows,)",
            detail="correct what the prepare step writes",
        )
        return (unreadable,)
    return judge(Evidence(release.manifest, train, test, tuple(production)))
