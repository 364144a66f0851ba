"""The model bundle: a folder or .zip that holds a network and all that is needed to use it well."""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer import backend
from trainer.dataset import CLASSES
from trainer.errors import BundleError
from trainer.faces import FaceLimits, JudgedFace
from trainer.image import InputSpec

if TYPE_CHECKING:
    from trainer.gradcam import Explainer

FORMAT = 1
MODEL_FILE = "model.keras"
INFO_FILE = "bundle.json"

SHIPPED = "default"
"""The name that stands for the bundle that comes with moodsort."""

DECIDED_BY = ("faces", "whole_image")
"""What of an image may decide."""

LARGEST_MEMBER = 2 * 1024**3
"""Bytes that a file inside a zipped bundle may have."""

BATCH_SHAPES = (1, 4, 16, 64)
"""Batches are padded to these sizes, so that the runtime prepares few shapes, once each."""


@dataclass(frozen=True)
class BundleInfo:
    """What `bundle.json` says.

    `classes` are in index order: the network gives the probability of the last. `threshold`: from
    this probability on it is the last class. `temperature` divides the logit (Guo et al. 2017,
    "On Calibration of Modern Neural Networks"). `metrics`: by part of the split. `data`: images
    and fingerprint of each part. `model_sha256`: of `model.keras`, in hex.
    """

    format: int
    name: str
    network: str
    classes: tuple[str, ...]
    input: InputSpec
    threshold: float
    temperature: float
    model_sha256: str
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    created_at: str

    def to_json(self) -> str:
        """The text of `bundle.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BundleInfo:
        """The reverse of `to_json`.

        Raises:
            ValueError: it is no JSON, or a key is missing, unknown or of the wrong kind.
        """
        raw = json.loads(text)
        try:
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']} is not the known one, {FORMAT}")
            if tuple(raw["classes"]) != CLASSES:
                raise ValueError(f"the classes are {raw['classes']}, not {list(CLASSES)}")
            if not (0 < raw["threshold"] < 1 and raw["temperature"] > 0):
                raise ValueError("the threshold or the temperature is out of range")
            return cls(
                **{field.name: raw[field.name] for field in fields(cls)}
                | {"classes": tuple(raw["classes"]), "input": InputSpec(**raw["input"])}
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"missing or wrong: {error}") from None


@dataclass(frozen=True)
class Verdict:
    """A label, how probable it is, and the probability of sad; probabilities in [0, 1].

    `decided_by` is one of DECIDED_BY; `faces` are those that were found, the largest first.
    """

    label: str
    probability: float
    p_sad: float
    decided_by: str = "whole_image"
    faces: tuple[JudgedFace, ...] = ()


class Predictor:
    """A Keras model as one compiled graph, called with a few fixed batch shapes only."""

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        self.spec = InputSpec(*model.input_shape[1:])
        self._model = model
        self._graph: Callable[[Any], Any] = tf.function(
            lambda images: model(images, training=False),
            input_signature=[tf.TensorSpec((None, *self.spec.shape), tf.uint8)],
        )

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network says, float32 (n,), of uint8 images (n, height, width, channels)."""
        return self.at(np.arange(len(pixels)), pixels)

    def at(self, rows: NDArray[np.int64], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same of some rows of images that need not fit into memory, float32 (len(rows),)."""
        size = BATCH_SHAPES[-1]
        parts = [self._padded(pixels[rows[i : i + size]]) for i in range(0, len(rows), size)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def warm(self) -> None:
        """Run each batch shape once, so that no image pays for the preparation."""
        for size in BATCH_SHAPES:
            self(np.zeros((size, *self.spec.shape), np.uint8))

    @cached_property
    def explainer(self) -> Explainer | None:
        """What draws Grad-CAM maps; None where the network does not allow it."""
        from trainer.gradcam import explainer

        return explainer(self._model)

    def _padded(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = next(size for size in BATCH_SHAPES if size >= len(pixels))
        batch = np.zeros((size, *self.spec.shape), np.uint8)
        batch[: len(pixels)] = pixels
        return np.asarray(self._graph(batch), dtype=np.float32)[: len(pixels), 0]


class Bundle:
    """A loaded bundle, ready to classify; `sha256` (hex) stands for all of its content.

    `limits` say which faces count.
    """

    def __init__(
        self,
        info: BundleInfo,
        sha256: str,
        predictor: Predictor,
        limits: FaceLimits = FaceLimits(),
    ) -> None:
        self.info = info
        self.sha256 = sha256
        self.limits = limits
        self._predictor = predictor

    def p_sad(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities of sad, float32 (n,), of uint8 images (n, height, width, c)."""
        return with_temperature(self.raw(pixels), self.info.temperature)

    def raw(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same before calibration."""
        return self._predictor(pixels)

    def classify(self, pixels: NDArray[np.uint8]) -> list[Verdict]:
        """One verdict an image of uint8 (n, height, width, c)."""
        return [self._verdict(float(p)) for p in self.p_sad(pixels)]

    def explain(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Where in uint8 images (n, height, width, c) the network found what it calls them for.

        float32 (n, height, width) in [0, 1], 1 where there is most of it in that image; None where
        the network does not look at places (see `trainer.gradcam`).
        """
        draw = self._predictor.explainer
        return draw(pixels, self.p_sad(pixels) >= self.info.threshold) if draw else None

    def warm(self) -> None:
        """Make the first call as fast as the later ones."""
        self._predictor.warm()

    def _verdict(self, p_sad: float) -> Verdict:
        happy, sad = CLASSES
        if p_sad >= self.info.threshold:
            return Verdict(sad, p_sad, p_sad)
        return Verdict(happy, 1 - p_sad, p_sad)


def with_temperature(p: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Probabilities with their logits divided by `temperature`; float32, in (0, 1)."""
    inside = np.clip(np.asarray(p, np.float64), 1e-7, 1 - 1e-7)
    logits = np.log(inside) - np.log1p(-inside)
    return np.asarray(1 / (1 + np.exp(-logits / temperature)), dtype=np.float32)


def load(where: str, limits: FaceLimits = FaceLimits()) -> Bundle:
    """Verify and load the bundle at `where`: a folder, a .zip, or `default`.

    `limits` say which faces count when it judges.

    Raises:
        BundleError: it is missing, damaged, not what its hash says, or of another format.
    """
    with _folder(where) as folder:
        info, sha256 = _verify(folder, where)
        model = _load_model(folder / MODEL_FILE, where)
    predictor = Predictor(model)
    if predictor.spec != info.input:
        raise BundleError(f"The model bundle {where} is damaged: its network has another input.")
    return Bundle(info, sha256, predictor, limits)


def save(folder: Path, model: Any, info: BundleInfo, extras: Mapping[str, bytes]) -> None:
    """Write a bundle with the Keras `model` to the new `folder`; `extras`: further files by name.

    `info.model_sha256` is replaced by the hash of what is written. The folder appears whole or
    not at all.

    Raises:
        BundleError: `folder` exists or cannot be written.
    """
    require_new(folder)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".moodsort-") as temporary:
            draft = Path(temporary) / "bundle"
            draft.mkdir()
            model.save(draft / MODEL_FILE)
            sealed = asdict(info) | {"input": info.input, "model_sha256": _hash(draft / MODEL_FILE)}
            (draft / INFO_FILE).write_text(BundleInfo(**sealed).to_json())
            for name, content in extras.items():
                (draft / name).write_bytes(content)
            draft.rename(folder)
    except OSError as error:
        raise BundleError(f"The bundle {folder} cannot be written: {error}.") from None


def require_new(folder: Path) -> None:
    """Refuse to write over anything, and make the parent folder.

    Raises:
        BundleError: `folder` exists, or its parent cannot be made.
    """
    if folder.exists():
        raise BundleError(f"{folder} exists already; name another or move it away first.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(f"The folder {folder.parent} cannot be made: {error.strerror}.") from None


@contextlib.contextmanager
def _folder(where: str) -> Iterator[Path]:
    """The bundle as a folder; a zip is unpacked for as long as it is needed."""
    if where == SHIPPED:
        yield Path(__file__).parent / "pretrained"
        return
    path = Path(where)
    if path.is_dir():
        yield path
    elif path.is_file():
        with tempfile.TemporaryDirectory(prefix="moodsort-") as temporary:
            _unzip(path, Path(temporary))
            yield Path(temporary)
    else:
        raise BundleError(f"There is no model bundle {where}.")


def _unzip(archive: Path, to: Path) -> None:
    """Just the two known members, wherever one folder inside holds them."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            for name in (MODEL_FILE, INFO_FILE):
                member = next((m for m in zipped.infolist() if Path(m.filename).name == name), None)
                if member is None:
                    raise BundleError(f"{archive} is no model bundle: {name} is missing.")
                if member.file_size > LARGEST_MEMBER:
                    raise BundleError(f"{name} in {archive} is too large to be true.")
                (to / name).write_bytes(zipped.read(member))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise BundleError(f"{archive} is damaged: {error}.") from None
    except (ValueError, OSError, RuntimeError, EOFError) as error:
        raise BundleError(f"{archive} is no model bundle: {error}.") from None


def _verify(folder: Path, where: str) -> tuple[BundleInfo, str]:
    """What the bundle says of itself, and the hash that stands for all of it."""
    try:
        text = (folder / INFO_FILE).read_bytes()
        info = BundleInfo.from_json(text.decode())
        found = _hash(folder / MODEL_FILE)
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise BundleError(f"{where} is no model bundle: {name} is missing.") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"The model bundle {where} cannot be used: {error}.") from None
    if found != info.model_sha256:
        raise BundleError(
            f"The model bundle {where} is damaged or was changed: "
            f"{MODEL_FILE} does not have the hash that {INFO_FILE} names."
        )
    return info, hashlib.sha256(text).hexdigest()


def _load_model(path: Path, where: str) -> Any:
    backend.start()
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever its layers raise.
        raise BundleError(f"Keras cannot load the model of {where}: {error}") from error


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
