"""Writes torch_cnn.onnx and torch_cnn_legacy.onnx: what PyTorch's two exporters make of one network.

They are committed, for PyTorch is too large a dependency for two files. To renew them, run this file in an environment
of torch 2.13, onnx and onnxscript. Weights are random (seeded): conversion is tested, not accuracy.
"""

from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent


class Cnn(nn.Module):  # type: ignore[misc]  # PyTorch is not among the dependencies
    """Convolutions over time, depthwise and strided ones among them, and dense layers behind a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(3, 8, 5, padding=2),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(8, 8, 3, padding=1, groups=8),
            nn.Conv1d(8, 16, 1),
            nn.BatchNorm1d(16),
            nn.Hardswish(),
            nn.Conv1d(16, 16, 3, stride=2, padding=1),
            nn.ReLU6(),
        )
        self.classify = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 16, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of windows, (batch, 3, 64)."""
        return self.classify(self.features(x))


def main() -> None:
    """Write both files, with a dynamic batch."""
    torch.manual_seed(0)
    model = Cnn().eval()
    names = {"input_names": ["x"], "output_names": ["scores"], "external_data": False}
    window = (torch.zeros(2, 3, 64),)
    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, window, HERE / "torch_cnn.onnx", dynamo=True, dynamic_shapes=batch, **names)
    torch.onnx.export(
        model, window, HERE / "torch_cnn_legacy.onnx", dynamo=False, dynamic_axes={"x": {0: "batch"}}, **names
    )


if __name__ == "__main__":
    main()
