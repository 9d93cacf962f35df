"""Train the network on $EDGELOOP_DATA_DIR/train.npz and write model.keras into $EDGELOOP_OUTPUT_DIR."""

import os
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers
from preprocessing import Windows, read
from recordings import LABELS

EPOCHS = 20
BATCH = 64
PEAK_LEARNING_RATE = 4e-3
STRAP_ANGLE_RAD = 0.2
"""Standard deviation, about each axis, of how differently two people strap the watch on: 11 degrees."""


def rotations(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Return small random rotations, (count, 3, 3), by Rodrigues' formula."""
    vector = rng.normal(0, STRAP_ANGLE_RAD, (count, 3))
    angle = np.linalg.norm(vector, axis=1)[:, None, None]
    x, y, z = (vector / np.maximum(angle[:, :, 0], 1e-9)).T
    zero = np.zeros(count)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(count, 3, 3)
    turns: npt.NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return turns


def augmented(data: Windows, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the windows, and once more with the watch turned a little and the movement faster or slower."""
    rng = np.random.default_rng(seed)
    turn = rotations(rng, len(data.x))
    tempo = rng.uniform(0.85, 1.15, (len(data.x), 1, 1))
    acceleration = np.einsum("nij,ntj->nti", turn, data.x[:, :, :3])
    rotation = np.einsum("nij,ntj->nti", turn, data.x[:, :, 3:]) * tempo
    turned = np.clip(np.concatenate([acceleration, rotation], axis=2), -1, 1).astype(np.float32)
    return np.concatenate([data.x, turned]), np.tile(data.y, 2)


def network(window: tuple[int, int]) -> keras.Model:
    """Return three strided convolutions, an average over time, and a classifier: 5,711 weights."""
    return keras.Sequential(
        [
            layers.Input(window),
            layers.Conv1D(16, 7, strides=2, padding="same", activation="relu"),
            layers.Conv1D(24, 5, strides=2, padding="same", activation="relu"),
            layers.Conv1D(24, 5, strides=2, padding="same", activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.3),
            layers.Dense(len(LABELS), activation="softmax"),
        ]
    )


def main() -> None:
    """Run the step."""
    seed = int(os.environ.get("EDGELOOP_SEED", "0"))
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    x, y = augmented(read(Path(os.environ["EDGELOOP_DATA_DIR"]) / "train.npz"), seed)
    model = network(x.shape[1:])
    steps = EPOCHS * -(-len(x) // BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(PEAK_LEARNING_RATE, steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    model.save(Path(os.environ["EDGELOOP_OUTPUT_DIR"]) / "model.keras")


if __name__ == "__main__":
    main()
