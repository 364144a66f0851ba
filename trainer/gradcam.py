"""Where in an image a network found what decided, by Grad-CAM.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from trainer.architectures import Tensor

BATCH = 16
"""Images at a time, so that memory does not grow with their number."""

Explainer = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.float32]]
"""Images (n, height, width, channels), and which of them to explain as sad (n,); the rest as happy.

-> maps (n, height, width) in [0, 1]: how much each place spoke for that class, 1 where it did most
in this image; all 0 where nothing did.
"""


def explainer(model: keras.Model) -> Explainer | None:
    """What draws the maps of `model`, from uint8 images to one sigmoid; `model` stays as it is.

    None where there is nothing to draw: no convolution, or an output that is no sigmoid.
    """
    if isinstance(model, keras.Sequential):
        # A loaded one was built several times, and its layers do not tell which time they mean.
        weights = model.get_weights()
        model = keras.models.clone_model(model)
        model.set_weights(weights)
    spatial, logit = _last_spatial(model), _logit(model)
    if spatial is None or logit is None:
        return None
    height, width = model.input_shape[1:3]
    weigh = _weigher(keras.Model(model.inputs, [spatial, logit]))

    def explain(pixels: NDArray[np.uint8], sad: NDArray[np.bool_]) -> NDArray[np.float32]:
        signs = np.where(sad, 1, -1).astype(np.float32)
        maps = np.empty((len(pixels), height, width), np.float32)
        for start in range(0, len(pixels), BATCH):
            part = slice(start, start + BATCH)
            coarse = weigh(pixels[part], signs[part]).numpy()
            maps[part] = [_enlarged(cells, height, width) for cells in coarse]
        return maps

    return explain


def _last_spatial(model: keras.Model) -> Tensor | None:
    """The last activation (batch, rows, columns, channels) that a convolution had a part in.

    It is looked up as the input of the layer that ends the image, such as Flatten: a network used
    as a layer tells only its own inner output, not the one in `model`.
    """
    convolved, found = False, None
    for layer in model.layers:
        inside = isinstance(layer, keras.Model | keras.layers.InputLayer)
        if convolved and not inside and _is_image(layer.input) and not _is_image(layer.output):
            found = layer.input
        # The image itself, merely rescaled, says nothing of what the network found in it.
        convolved = convolved or any(len(weight.shape) == 4 for weight in layer.weights)
    return found


def _is_image(tensor: Tensor) -> bool:
    """Whether it is one tensor of rank 4 with more than one place."""
    shape = getattr(tensor, "shape", ())
    return len(shape) == 4 and tuple(shape[1:3]) != (1, 1)


def _logit(model: keras.Model) -> Tensor | None:
    """What the last layer gives before its sigmoid, (batch, 1); None where it has no sigmoid.

    The probability will not do: of the surest images it is 1.0 to the last bit, the sigmoid's
    gradient there is 0 and no arithmetic brings the logit's back. So the last layer is made again
    without its activation.
    """
    last = model.layers[-1]
    config = last.get_config()
    if config.get("activation") != "sigmoid":
        return None
    linear = type(last).from_config({**config, "activation": "linear"})
    logit = linear(last.input)
    linear.set_weights(last.get_weights())
    return logit


def _weigher(inner: keras.Model) -> Callable[[Any, Any], Any]:
    """From images and signs (n,) to float32 maps (n, rows, columns) in [0, 1].

    `inner` goes from images to the spatial activation and the logit of sad; the sign says whether
    it is that or its opposite, the logit of happy, that is explained.
    """

    def weigh(images: Any, signs: Any) -> Any:
        spatial, logit = inner(images, training=False)
        [gradients] = tf.gradients(logit[:, 0] * signs, spatial)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * spatial, axis=-1))
        return tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=(1, 2), keepdims=True))

    images = tf.TensorSpec(inner.inputs[0].shape, tf.uint8)
    signs = tf.TensorSpec((None,), tf.float32)
    graph: Callable[[Any, Any], Any] = tf.function(weigh, input_signature=[images, signs])
    return graph


def _enlarged(cells: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The map (rows, columns) at the size of the image."""
    smooth = Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(smooth, np.float32).clip(0, 1)
