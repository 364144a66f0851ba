"""Make trainer/pretrained/detector.keras from MediaPipe's BlazeFace weights.

python docs/convert_blazeface.py face_detection_short_range.tflite detector.keras
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np

from trainer import backend

backend.start()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def main(source: Path, target: Path) -> None:
    """Write the network of the .tflite file SOURCE as a Keras model."""
    convert(interpreter(source)).save(target)


def interpreter(source: Path) -> Any:
    """A .tflite file, ready to be called, which keeps all that it computes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It says that it is to move to another package.
        runner = tf.lite.Interpreter(
            model_path=str(source),
            experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
    runner.allocate_tensors()
    runner.invoke()  # so that the weights, stored as float16, are there as float32
    return runner


def convert(runner: Any) -> keras.Model:
    """The same network for uint8 images (n, height, width, 3), their sides multiples of 16.

    Its outputs are the four grids, (n, rows, columns, values), which the original joins in the end.

    Raises:
        ValueError: it has an operation that BlazeFace does not use.
    """
    image = keras.Input((None, None, 3), dtype="uint8")
    values = {runner.get_input_details()[0]["index"]: layers.Rescaling(1 / 127.5, -1.0)(image)}
    grids: list[Any] = []
    shapes = {tensor["index"]: tensor["shape"] for tensor in runner.get_tensor_details()}
    for operation in runner._get_ops_details():
        name, sources, (target, *_) = (operation[k] for k in ("op_name", "inputs", "outputs"))
        if name in ("DEQUANTIZE", "CONCATENATION"):
            continue
        if name == "RESHAPE":
            grids.append(values[sources[0]])
            continue
        inputs = [values[source] for source in sources if source in values]
        constants = [runner.get_tensor(s) for s in sources if s not in values]
        halves = shapes[sources[0]][1] == 2 * shapes[target][1]
        values[target] = _apply(name, inputs, constants, strides=1 + int(halves))
    return keras.Model(image, grids, name="blazeface")


def _apply(name: str, inputs: Any, constants: Any, *, strides: int) -> Any:
    """One operation of TensorFlow Lite on Keras tensors, with weights that it has as constants."""
    simple = {
        "RELU": lambda: layers.ReLU()(*inputs[:1]),
        "ADD": lambda: layers.Add()(inputs),
        "MAX_POOL_2D": lambda: layers.MaxPooling2D(2)(*inputs[:1]),
        "PAD": lambda: keras.ops.pad(inputs[0], constants[0].tolist()),
        "CONV_2D": lambda: _convolve(
            inputs[0], *constants, layers.Conv2D, len(constants[0]), strides=strides
        ),
        "DEPTHWISE_CONV_2D": lambda: _convolve(
            inputs[0], *constants, layers.DepthwiseConv2D, strides=strides
        ),
    }
    if name not in simple:
        raise ValueError(f"{name} is no operation of BlazeFace.")
    return simple[name]()


def _convolve(x: Any, kernel: Any, bias: Any, kind: Any, *filters: int, strides: int) -> Any:
    layer = kind(*filters, kernel.shape[1:3], strides, padding="same")
    y = layer(x)
    layer.set_weights([np.asarray(kernel, np.float32).transpose(1, 2, 3, 0), bias])
    return y


if __name__ == "__main__":
    main()
