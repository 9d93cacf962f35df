"""Writes the models in this folder: a tiny gesture classifier that trains in a second. Run it with the builder's extra:
``python -m tests.data.gestures.make``.

Windows of 20 samples of 3 axes; three classes that differ in frequency. Kept as files because importing TensorFlow
takes longer than all the tests that need them.
"""

from pathlib import Path

import keras
import tensorflow as tf

from tests.data.gestures.release import windows


def network(batch: int | None) -> keras.Model:
    return keras.Sequential(
        [
            keras.layers.Input(batch_shape=(batch, 20, 3)),
            keras.layers.Reshape((20, 1, 3)),
            keras.layers.Conv2D(8, (5, 1), strides=(2, 1), activation="relu"),
            keras.layers.DepthwiseConv2D((3, 1), activation="relu"),
            keras.layers.Conv2D(8, 1, activation="relu"),
            keras.layers.AveragePooling2D((6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


def main() -> None:
    keras.utils.set_random_seed(7)
    tf.config.experimental.enable_op_determinism()
    model = network(None)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = windows(3000, 1)
    model.fit(x, y, epochs=12, batch_size=32, verbose=2)
    folder = Path(__file__).parent
    (folder / "batched.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    single = network(1)
    single.set_weights(model.get_weights())
    converter = tf.lite.TFLiteConverter.from_keras_model(single)
    (folder / "float32.tflite").write_bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in x[:200])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (folder / "int8.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
