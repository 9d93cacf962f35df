"""Every model format that is taken, on its way to a full-int8 .tflite."""
