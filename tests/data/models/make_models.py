"""Writes the small int8 models beside this file.

They are committed; `python tests/data/models/make_models.py` renews them.
Weights are random (seeded), because code generation is tested on arithmetic, not on accuracy.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

HERE = Path(__file__).parent
SEED = 7


def cnn_1d() -> keras.Model:
    """Make the example's shape of network: 6 channels of 100 samples, 7 classes, 157k multiply-accumulates."""
    inputs = keras.Input((100, 6))
    x = layers.Conv1D(16, 5, activation="relu")(inputs)
    x = layers.MaxPooling1D(2)(x)
    x = layers.Conv1D(24, 5, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv1D(24, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(7, activation="softmax")(x))


def separable_1d() -> keras.Model:
    """Use separable and depthwise convolutions in one dimension, with a depth multiplier and both paddings."""
    inputs = keras.Input((33, 3))
    x = layers.SeparableConv1D(10, 4, padding="same", activation="relu")(inputs)
    x = layers.DepthwiseConv1D(3, depth_multiplier=2, strides=2, padding="valid", activation="relu6")(x)
    x = layers.AveragePooling1D(3, strides=2, padding="same")(x)
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def residual_2d() -> keras.Model:
    """Use odd sizes in two dimensions, a residual addition, pooling over borders, and a sigmoid."""
    inputs = keras.Input((11, 9, 3))
    x = layers.Conv2D(5, 3, strides=2, padding="same", activation="relu")(inputs)
    y = layers.DepthwiseConv2D((3, 2), padding="same", activation="relu6")(x)
    y = layers.Conv2D(5, 1)(y)
    x = layers.Add()([x, y])
    x = layers.MaxPooling2D((3, 2), strides=(2, 1), padding="same")(x)
    x = layers.AveragePooling2D(2, padding="same")(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Flatten()(x)))


def dilated_1d() -> keras.Model:
    """Use causal dilated convolutions, as temporal networks do, with a gate and separate activations."""
    inputs = keras.Input((40, 2))
    x = layers.Conv1D(8, 3, dilation_rate=2, padding="causal")(inputs)
    x = layers.LeakyReLU(negative_slope=0.1)(x)
    x = layers.Conv1D(8, 3, dilation_rate=4, padding="same")(x)
    gate = layers.Activation("sigmoid")(x)
    x = layers.Multiply()([layers.Activation("tanh")(x), gate])
    x = layers.ZeroPadding1D((1, 2))(x)
    x = layers.Conv1D(4, 1)(x)
    x = layers.Softmax()(x)
    return keras.Model(inputs, x)


def dense() -> keras.Model:
    """Use dense layers behind a normalisation, with a subtraction of two branches."""
    inputs = keras.Input((20,))
    x = layers.Normalization(mean=np.linspace(-1, 1, 20), variance=np.linspace(0.5, 2, 20))(inputs)
    a = layers.Dense(17, activation="relu")(x)
    b = layers.Dense(17, use_bias=False)(x)
    x = layers.Subtract()([a, b])
    x = layers.Dense(9, activation="relu6")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


def grouped_2d() -> keras.Model:
    """Use grouped and dilated convolutions in two dimensions, and a mean that drops the dimensions."""
    inputs = keras.Input((8, 7, 4))
    x = layers.Conv2D(8, 3, groups=2, activation="relu")(inputs)
    x = layers.Conv2D(6, (3, 2), dilation_rate=2, padding="same", activation="relu")(x)
    x = layers.ZeroPadding2D(((0, 1), (2, 0)))(x)
    x = layers.Conv2D(7, (2, 3), strides=(1, 2), activation="relu")(x)
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def transposed() -> keras.Model:
    """Use transposed convolutions with both paddings, as decoders do."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(2, 3, padding="same")(inputs)
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2DTranspose(2, (2, 3), strides=(1, 2))(x))


def branches_2d() -> keras.Model:
    """Use branches that join along channels, squeeze and excitation, and what mobile networks use as activations."""
    inputs = keras.Input((8, 6, 4))
    x = layers.Conv2D(8, 3, padding="same")(inputs)
    x = layers.Activation("hard_swish")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(3, 1, activation="relu")(gate))
    x = layers.Multiply()([x, gate])
    y = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(4, 1)(x))
    z = layers.LeakyReLU(negative_slope=0.2)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Concatenate()([y, z, inputs])
    x = layers.Resizing(8, 6, interpolation="nearest")(layers.MaxPooling2D(2)(x))
    x = layers.Maximum()([x, layers.Conv2D(16, 1)(x)])
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalMaxPooling2D()(x)))


def lstm() -> keras.Model:
    """Use an LSTM as it has to be exported: unrolled."""
    inputs = keras.Input((4, 3))
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(5, unroll=True)(inputs)))


def gru() -> keras.Model:
    """Use a GRU, unrolled."""
    inputs = keras.Input((3, 3))
    return keras.Model(inputs, layers.Dense(2)(layers.GRU(4, unroll=True)(inputs)))


def two_inputs() -> keras.Model:
    """Take a window and features of another size, and give two answers."""
    window, features = keras.Input((20, 3)), keras.Input((5,))
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(layers.Conv1D(6, 3)(window)), features])
    return keras.Model([window, features], [layers.Dense(3, activation="softmax")(x), layers.Dense(2)(x)])


def autoencoder() -> keras.Model:
    """Use the shape of MLPerf Tiny's anomaly detector, an eighth as wide."""
    inputs = keras.Input((80,))
    x = inputs
    for units in (16, 16, 1, 16, 16):
        x = layers.Dense(units, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(80)(x))


MODELS: tuple[Callable[[], keras.Model], ...] = (
    cnn_1d,
    separable_1d,
    residual_2d,
    dilated_1d,
    dense,
    grouped_2d,
    transposed,
    branches_2d,
    lstm,
    gru,
    two_inputs,
    autoencoder,
)
FLOAT_EDGES = cnn_1d
"""This one is written with float32 inputs and outputs too."""


def _randomise(model: keras.Model, rng: np.random.Generator) -> None:
    for weight in model.weights:
        values = rng.normal(0, 0.4, weight.shape)
        if "variance" in weight.path:
            values = np.abs(values) + 0.3
        if "normalization" in weight.path and "batch" not in weight.path:
            continue
        if weight.dtype == "float32":
            weight.assign(values.astype(np.float32))


def _int8(model: keras.Model, rng: np.random.Generator, *, batch: int | None, edges: tf.DType = tf.int8) -> bytes:
    def representative() -> Iterator[list[np.ndarray]]:
        for _ in range(100):
            rows = [rng.normal(0, 1, (1, *entry.shape[1:])).astype(np.float32) for entry in model.inputs]
            yield rows[::-1]  # the converter has the inputs of a function with several the other way round

    signature = [tf.TensorSpec((batch, *entry.shape[1:]), tf.float32) for entry in model.inputs]

    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            name="serve",
            fn=lambda *x: model(x if len(x) > 1 else x[0], training=False),
            input_signature=signature,
        )
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = edges
        converter.inference_output_type = edges
        return bytes(converter.convert())


def main() -> None:
    """Write one .tflite a model, with the batch fixed to 1, and one with a free batch; or only those that are named."""
    for make in MODELS:
        if sys.argv[1:] and make.__name__ not in sys.argv[1:]:
            continue
        keras.utils.set_random_seed(SEED)
        rng = np.random.default_rng(SEED)
        model = make()
        _randomise(model, rng)
        (HERE / f"{make.__name__}.tflite").write_bytes(_int8(model, rng, batch=1))
        if make is dense:
            (HERE / "free_batch.tflite").write_bytes(_int8(cnn_1d(), rng, batch=None))
        if make is FLOAT_EDGES:
            (HERE / "float_edges.tflite").write_bytes(_int8(model, rng, batch=1, edges=tf.float32))


if __name__ == "__main__":
    main()
