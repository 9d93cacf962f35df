"""Writes torch_*.onnx and torch_*_legacy.onnx: what PyTorch's two exporters make of a few networks.

They are committed, for PyTorch is too large a dependency for a few files. To renew them, run this in an environment of
torch, onnx and onnxscript, naming the networks to renew; torch_cnn is of torch 2.13, the others of 2.15. Weights are
random (seeded): conversion is tested, not accuracy. What the newer exporter notes about the machine is left out.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import onnx
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


class Lstm(nn.Module):  # type: ignore[misc]  # as above
    """An LSTM as tutorials write it: states of zeros made for the batch, the last step to the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.classify = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of windows, (batch, 12, 4)."""
        zeros = torch.zeros(1, x.size(0), 6)
        steps, _ = self.lstm(x, (zeros, zeros))
        return self.classify(steps[:, -1, :])


class Gru(nn.Module):  # type: ignore[misc]  # as above
    """Two GRUs in both directions behind a convolution, whose last states give the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(4, 5, 3, padding=1)
        self.gru = nn.GRU(5, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.classify = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of windows, (batch, 12, 4)."""
        found = torch.relu(self.convolution(x.permute(0, 2, 1))).permute(0, 2, 1)
        _, last = self.gru(found)
        return self.classify(torch.cat([last[-2], last[-1]], dim=1))


class Picture(nn.Module):  # type: ignore[misc]  # as above
    """A residual block, squeeze and excitation, and a way down and up again with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8))
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.down, self.up = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.Upsample(scale_factor=2)
        self.merge = nn.Conv2d(20, 6, 3, padding=1)
        self.classify = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of pictures, (batch, 3, 8, 8)."""
        x = self.first(x)
        x = torch.relu(x + self.block(x))
        weights = self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        x = x * nn.functional.hardsigmoid(weights)
        both = torch.cat([x, self.up(torch.relu(self.down(x)))], dim=1)
        return self.classify(torch.relu(self.merge(both)))


NETWORKS: Mapping[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "torch_cnn": (Cnn, (3, 64)),
    "torch_lstm": (Lstm, (12, 4)),
    "torch_gru": (Gru, (12, 4)),
    "torch_picture": (Picture, (3, 8, 8)),
}


def main(names: list[str]) -> None:
    """Write both files of each network, with a dynamic batch."""
    for name in names or NETWORKS:
        network, shape = NETWORKS[name]
        torch.manual_seed(0)
        model, window = network().eval(), (torch.zeros(2, *shape),)
        said = {"input_names": ["x"], "output_names": ["scores"], "external_data": False}
        file = HERE / f"{name}.onnx"
        batch = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(model, window, file, dynamo=True, dynamic_shapes=batch, **said)
        exported = onnx.load(file)
        for node in exported.graph.node:
            node.ClearField("metadata_props")  # the files and lines that each came from
        onnx.save(exported, file)
        legacy = HERE / f"{name}_legacy.onnx"
        torch.onnx.export(model, window, legacy, dynamo=False, dynamic_axes={"x": {0: "batch"}}, **said)


if __name__ == "__main__":
    main(sys.argv[1:])
