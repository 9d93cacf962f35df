import re
from pathlib import Path
from typing import Any

import pytest

from services.artifact_builder.errors import BuildFailureError
from services.artifact_builder.pipeline import BuildRequest, build
from services.artifact_builder.tools import Tools
from services.artifact_builder.workspace import workspace
from shared.events.artifact import BuildStage

TRAIN = """
import os
import keras
from keras import layers
model = keras.Sequential([layers.Input((8, 1)), layers.Flatten(), layers.Dense(2, activation="elu")])
model.save(os.environ["EDGELOOP_OUTPUT_DIR"] + "/model.keras")
"""


MASKED = TRAIN.replace("layers.Flatten()", "layers.Masking(), layers.LSTM(3)").replace(', activation="elu"', "")


@pytest.mark.slow
async def test_a_recurrent_layer_with_a_mask_is_named(make_repository: Any, tools: Tools, tmp_path: Path) -> None:
    repository = make_repository({"train.py": MASKED})
    with workspace(tmp_path / "work") as folder, pytest.raises(BuildFailureError) as caught:
        await build(BuildRequest("gestures", *repository), folder, tools)
    assert caught.value.stage is BuildStage.QUANTISE
    assert "NOT_EQUAL" in caught.value.reason


@pytest.mark.slow
async def test_an_operator_that_stays_in_float_is_named_with_its_tensors(
    make_repository: Any, tools: Tools, tmp_path: Path
) -> None:
    repository = make_repository({"train.py": TRAIN})
    with workspace(tmp_path / "work") as folder, pytest.raises(BuildFailureError) as caught:
        await build(BuildRequest("gestures", *repository), folder, tools)
    assert caught.value.stage is BuildStage.QUANTISE
    assert re.search(r"not int8 throughout: operator \d+, ELU, with tensor .* in float32", caught.value.reason)
