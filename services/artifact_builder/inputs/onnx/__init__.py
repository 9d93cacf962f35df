"""ONNX models as TensorFlow functions, channels last; for the conversion's process only. See ADR 0012."""
