"""The networks of examples/resnet.c in PyTorch, with the same names of parameters, written as torchvision writes them."""

from torch import nn


def conv(channels_in, channels_out, kernel, stride):
    return nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)


class Block(nn.Module):
    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.residual = nn.Sequential(
            conv(channels_in, channels_out, 3, stride), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True),
            conv(channels_out, channels_out, 3, 1), nn.BatchNorm2d(channels_out))
        self.shortcut = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.residual(x)
        out += x if self.shortcut is None else self.shortcut(x)
        return self.relu(out)


def resnet(depth, channels=1, classes=10):
    stages, blocks, width = (4, 2, 64) if depth == 18 else (3, 1, 16)
    layers = [conv(channels, width, 3, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    channels_in = width
    for stage in range(stages):
        for i in range(blocks):
            layers.append(Block(channels_in, width << stage, 2 if stage > 0 and i == 0 else 1))
            channels_in = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels_in, classes))
