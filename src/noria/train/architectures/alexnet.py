"""AlexNet (Krizhevsky, Sutskever and Hinton 2012) in the form for one GPU of Krizhevsky 2014, One weird trick, arXiv 1404.5997.

Layers, names of weights and initial weights are torchvision's, so its weights load as they are. That form has no local
response normalisation and fewer channels than the paper of 2012.
"""

from __future__ import annotations

from torch import Tensor, nn

from noria.train.dropout import Dropout


class AlexNet(nn.Module):
    """float32 [batch, channels, height, width], usually 224x224, to float32 [batch, num_classes], unnormalised log-probabilities."""

    def __init__(self, num_classes: int, dropout: float, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            Dropout(dropout), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(),
            Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, num_classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return out


def build(*, num_classes: int = 1000, dropout: float = 0.5, channels: int = 3) -> nn.Module:
    return AlexNet(num_classes, dropout, channels)
