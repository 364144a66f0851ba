"""Make trainer/pretrained/backbone.keras from EfficientNet-Lite0's weights for ImageNet.

python docs/convert_backbone.py efficientnet-lite0-57934424.pth backbone.keras
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from trainer import backend

backend.start()

import keras  # noqa: E402
from keras import layers  # noqa: E402

Weights = Mapping[str, NDArray[np.float32]]

STAGES = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6))
"""Blocks, strides of the first of them, and expansion, of the stages that are kept.

Source: Tan and Le 2019, "EfficientNet", table 1, of which Lite0 has neither squeeze-and-excitation
nor swish. The last two stages hold most of the parameters and know most of ImageNet's own classes.
"""


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def main(source: Path, target: Path) -> None:
    """Write the first stages of the network in SOURCE, a PyTorch file, as a Keras model."""
    import torch  # Needed here alone: pip install torch.

    state = torch.load(source, map_location="cpu", weights_only=True)
    build({name: tensor.numpy() for name, tensor in state.items()}).save(target)


def build(weights: Weights) -> keras.Model:
    """From uint8 images (n, height, width, 3) to float32 (n, height / 16, width / 16, 112)."""
    image = keras.Input((None, None, 3), dtype="uint8")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(image)
    x = layers.ReLU(6.0)(_convolve(x, weights, "_conv_stem", "_bn0", strides=2))
    number = 0
    for blocks, strides, expansion in STAGES:
        for block in range(blocks):
            x = _block(x, weights, f"_blocks.{number}.", 1 if block else strides, expansion)
            number += 1
    return keras.Model(image, x, name="backbone")


def _block(x: Any, weights: Weights, prefix: str, strides: int, expansion: int) -> Any:
    y = x
    if expansion > 1:
        y = layers.ReLU(6.0)(_convolve(y, weights, f"{prefix}_expand_conv", f"{prefix}_bn0"))
    y = _convolve(y, weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", strides, depthwise=True)
    y = _convolve(layers.ReLU(6.0)(y), weights, f"{prefix}_project_conv", f"{prefix}_bn2")
    return layers.Add()([x, y]) if strides == 1 and x.shape[-1] == y.shape[-1] else y


def _convolve(
    x: Any, weights: Weights, name: str, norm: str, strides: int = 1, *, depthwise: bool = False
) -> Any:
    kernel = weights[f"{name}.weight"]  # outputs, inputs, rows, columns
    options = {"strides": strides, "padding": "same", "use_bias": False}
    if depthwise:
        layer = layers.DepthwiseConv2D(kernel.shape[2:], **options)
        order = (2, 3, 0, 1)
    else:
        layer = layers.Conv2D(len(kernel), kernel.shape[2:], **options)
        order = (2, 3, 1, 0)
    y = layer(x)
    layer.set_weights([kernel.transpose(order)])
    normalise = layers.BatchNormalization(epsilon=1e-3)
    y = normalise(y)
    statistics = ("weight", "bias", "running_mean", "running_var")
    normalise.set_weights([weights[f"{norm}.{name}"] for name in statistics])
    return y


if __name__ == "__main__":
    main()
