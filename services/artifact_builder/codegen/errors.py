"""What can be wrong with a model."""


class MalformedModelError(ValueError):
    """The bytes are not a whole .tflite flatbuffer."""


class UnsupportedModelError(ValueError):
    """The model is well formed, but uses what the kernels do not have."""
