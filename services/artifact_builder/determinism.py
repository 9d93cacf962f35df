"""What TensorFlow is told so that equal inputs give equal bits. The standard library alone: steps are told it too."""

from typing import Final

THREADS: Final = 1  # the bits of a trained and of a quantised model depend on TensorFlow's number of threads

TENSORFLOW_ENVIRONMENT: Final = {
    "TF_NUM_INTRAOP_THREADS": str(THREADS),
    "TF_NUM_INTEROP_THREADS": str(THREADS),
    "OMP_NUM_THREADS": str(THREADS),
    "OPENBLAS_NUM_THREADS": str(THREADS),
    "TF_DETERMINISTIC_OPS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}
