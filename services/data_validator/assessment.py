"""From a release's dataset files to the answers of all checks: what the service and `edgeloop check` do alike."""

from collections.abc import Mapping

from services.data_validator.domain import Evidence, judge
from shared.events import Check, CheckOutcome
from shared.releases.datasets import DatasetError, read_dataset
from shared.releases.release import Release


def assess(release: Release, files: Mapping[str, bytes]) -> tuple[Check, ...]:
    """Judge a release's datasets. A file that cannot be read is a failed check.

    Args:
        release: the declaration, and which datasets there are.
        files: the content of each, by the names of `release.datasets.named()`.
    """
    datasets = release.datasets
    try:
        parts = {name: read_dataset(files[name], name=name) for name in datasets.named()}
    except DatasetError as error:
        unreadable = Check(
            name="dataset-format",
            outcome=CheckOutcome.FAILED,
            observed=str(error),
            allowed="an .npz of x (rows, *input shape) float32, y (rows,) class index and group (rows,)",
            detail="correct what the prepare step writes",
        )
        return (unreadable,)
    return judge(
        Evidence(
            release.manifest,
            train=parts["train"],
            test=parts["test"],
            production={name: parts[name] for name in datasets.named_production()},
            more={file.path: parts[file.path] for file in datasets.more},
        )
    )
