"""One probability for an image from those of its faces and of the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Fusion:
    """Weights of the logits of the faces and of the whole image, whose sum with `bias` decides.

    That holds as far as the faces leave something of the image: in a picture of nothing but a face
    that alone decides, and where no face is found the whole does.
    """

    faces: float
    whole: float
    bias: float

    def __call__(self, faces: float, whole: float, rest: float) -> float:
        """The logit of sad from the two logits of sad; `rest`: the share without faces, [0, 1]."""
        both = self.faces * faces + self.whole * whole + self.bias
        return (1 - rest) * faces + rest * both


def fit(
    faces: NDArray[np.float64],
    whole: NDArray[np.float64],
    rest: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> Fusion:
    """The weights that make the labels (n,) of images with faces likeliest.

    An image counts as much as its faces leave of it (n,). Without images of both labels nothing is
    known, and both count alike.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels[rest > 0])) < 2:
        return Fusion(1.0, 1.0, 0.0)
    logits = np.stack([faces, whole], axis=1)
    model = LogisticRegression().fit(logits, labels, sample_weight=rest)
    return Fusion(*model.coef_[0].tolist(), *model.intercept_.tolist())


def of_faces(logits: NDArray[np.float64], sides: NDArray[np.float32]) -> float:
    """The logit of an image by its faces alone (n > 0): their mean, weighted by their sides."""
    return float(np.average(logits, weights=sides))
