"""The model bundle: a folder or .zip that holds a network and all that is needed to use it well."""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer import backend
from trainer.dataset import CLASSES
from trainer.detection import Detector
from trainer.errors import BundleError
from trainer.faces import FaceLimits, JudgedFace
from trainer.finding import FaceFinder
from trainer.fusion import Fusion
from trainer.image import DecodedImage, InputSpec, View
from trainer.judging import FaceJudge, Judged, Predictor
from trainer.logits import probability
from trainer.sight import largest_faces
from trainer.spotting import Spotter
from trainer.stored import StoredNetwork, file_names

if TYPE_CHECKING:
    from trainer.gradcam import Explainer

FORMAT = 3
MODEL_FILE = "model.keras"
"""The network that was trained for the bundle; FACES_FILE is one that was taken from another."""
FACES_FILE = "faces.keras"
DETECTOR_FILE = "detector.keras"
MODEL_FILES = tuple(
    name for file in (MODEL_FILE, FACES_FILE, DETECTOR_FILE) for name in file_names(file)
)
SPOTTER_FILE = "spotter.keras"
"""No part of a bundle: it comes with moodsort and serves all that judge faces."""
INFO_FILE = "bundle.json"
EXTRAS = ("report.html", "curves.png", "confusion.png")
"""Files for people, which need not be there."""

SHIPPED = "default"
"""The name that stands for the bundle that comes with moodsort."""

DECIDED_BY = ("faces", "whole_image")
"""What of an image may decide."""

LARGEST_MEMBER = 2 * 1024**3
"""Bytes that a file inside a zipped bundle may have."""


@dataclass(frozen=True)
class Stage:
    """One network of a bundle and what it looks at.

    `file`: of the bundle, as Keras saves it. `temperature` divides the logit (Guo et al. 2017,
    "On Calibration of Modern Neural Networks").
    """

    network: str
    file: str
    input: InputSpec
    temperature: float


@dataclass(frozen=True)
class BundleInfo:
    """What `bundle.json` says.

    `classes` are in index order: the networks give the probability of the last. `threshold`: from
    this probability on it is the last class. `files`: sha256 in hex of the files of its networks,
    by name. `faces` judges faces, which the detector finds, and whole images where there is none,
    unless there is `whole`, which judges whole images; at least one of the two is there. `fusion`
    says what both together make of an image with faces. `metrics`: by part of the split. `data`:
    images and fingerprint of each part.
    """

    format: int
    name: str
    classes: tuple[str, ...]
    threshold: float
    files: Mapping[str, str]
    faces: Stage | None
    whole: Stage | None
    fusion: Fusion | None
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    created_at: str

    @property
    def main(self) -> Stage:
        """The stage that judges whole images, if need be."""
        stage = self.whole or self.faces
        assert stage is not None  # Neither is saved or loaded without one.
        return stage

    @property
    def stages(self) -> list[Stage]:
        """Those that are there."""
        return [stage for stage in (self.faces, self.whole) if stage]

    @property
    def networks(self) -> list[str]:
        """The files of its networks, as Keras saves them."""
        return [stage.file for stage in self.stages] + ([DETECTOR_FILE] if self.faces else [])

    @property
    def view(self) -> View:
        """How images are to be decoded for it."""
        return View(self.main.input, FaceJudge.photo_side if self.faces else None)

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
            faces, whole = _stage(raw["faces"]), _stage(raw["whole"])
            if not (faces or whole):
                raise ValueError("it has no network")
            if bool(faces and whole) != bool(raw["fusion"]):
                raise ValueError("a fusion is of two networks")
            files = [stage.file for stage in (faces, whole) if stage]
            if len(set(files)) < len(files) or not set(files) <= {MODEL_FILE, FACES_FILE}:
                raise ValueError(f"its networks are in {' and '.join(files)}")
            if not 0 < raw["threshold"] < 1:
                raise ValueError("the threshold is out of range")
            parts = {
                "classes": tuple(raw["classes"]),
                "faces": faces,
                "whole": whole,
                "fusion": Fusion(**raw["fusion"]) if raw["fusion"] else None,
            }
            info = cls(**{field.name: raw[field.name] for field in fields(cls)} | parts)
            if set(info.files) != {name for file in info.networks for name in file_names(file)}:
                raise ValueError(f"its files are {', '.join(info.files)}")
        except (KeyError, TypeError) as error:
            raise ValueError(f"missing or wrong: {error}") from None
        return info


def _stage(raw: Mapping[str, Any] | None) -> Stage | None:
    if raw is None:
        return None
    if not raw["temperature"] > 0:
        raise ValueError("a temperature is out of range")
    return Stage(**{**raw, "input": InputSpec(**raw["input"])})


@dataclass(frozen=True)
class Verdict:
    """A label, how probable it is, and the probability of sad; probabilities in [0, 1].

    `decided_by` is one of DECIDED_BY; `faces` are those that counted, the largest first.
    """

    label: str
    probability: float
    p_sad: float
    decided_by: str = "whole_image"
    faces: tuple[JudgedFace, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a bundle says of an image.

    `p_sad`: the probability of sad; `uncalibrated`: if all temperatures were 1. `faces`: those that
    counted, the largest first.
    """

    p_sad: float
    uncalibrated: float
    faces: tuple[JudgedFace, ...]


class Bundle:
    """A loaded bundle, ready to classify; `sha256` (hex) stands for all of its content.

    It takes images that are decoded as `info.view` says.
    """

    def __init__(
        self,
        info: BundleInfo,
        sha256: str,
        *,
        faces: FaceJudge | None = None,
        whole: Predictor | None = None,
    ) -> None:
        self.info = info
        self.sha256 = sha256
        self.faces, self.whole = faces, whole

    def __reduce__(self) -> tuple[Callable[[BundleInfo, str], Bundle], tuple[BundleInfo, str]]:
        """Another process makes of it what it needs itself."""
        return partial(Bundle, faces=self.faces, whole=self.whole), (self.info, self.sha256)

    @property
    def main(self) -> Predictor:
        """The network of `info.main`."""
        network = self.whole or (self.faces and self.faces.predict)
        assert network  # as of `info.main`
        return network

    @cached_property
    def in_batches(self) -> bool:
        """Whether it is faster with many images at once, as on a GPU, than on many threads."""
        return backend.has_gpu()

    @property
    def most_at_once(self) -> int:
        """Images that a network computes at once at most; on GPUs, what `warm` found."""
        networks = (self.faces and self.faces.predict, self.whole)
        return max(network.most for network in networks if network)

    def with_info(self, info: BundleInfo) -> Bundle:
        """The same networks, with something else said of them."""
        return Bundle(info, self.sha256, faces=self.faces, whole=self.whole)

    def classify(self, images: Sequence[DecodedImage]) -> list[Verdict]:
        """One verdict an image."""
        return [self._verdict(answer) for answer in self.answers(images)]

    def answers(self, images: Sequence[DecodedImage]) -> list[Answer]:
        """One answer an image. Several threads may ask at the same time."""
        if not images:
            return []
        nobody: list[Judged | None] = [None] * len(images)
        judged = self.faces.judge(images) if self.faces else nobody
        needed = [i for i, faces in enumerate(judged) if faces is None or self._counts(faces)]
        whole = np.zeros(len(images))
        if needed:
            whole[needed] = self.main.logits(np.stack([images[i].pixels for i in needed]))
        return [self._answer(*both) for both in zip(judged, whole.tolist(), strict=True)]

    def _counts(self, faces: Judged) -> bool:
        """Whether the whole image counts beside its faces."""
        return self.info.fusion is not None and faces.rest > 0

    def _answer(self, judged: Judged | None, whole: float) -> Answer:
        """From the logits that the networks gave."""
        if judged is None:
            calibrated, raw = whole / self.main.temperature, whole
        else:
            assert self.faces
            calibrated, raw = judged.logit / self.faces.predict.temperature, judged.logit
            if fusion := self.info.fusion:
                calibrated = fusion(calibrated, whole / self.main.temperature, judged.rest)
                raw = fusion(raw, whole, judged.rest)
        p_sad, uncalibrated = probability(np.array([calibrated, raw])).tolist()
        return Answer(p_sad, uncalibrated, judged.faces if judged else ())

    def explain(
        self, images: Sequence[DecodedImage]
    ) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]] | None:
        """What the main network sees of each image, and where in it it found what it says.

        uint8 (height, width, channels), and float32 (height, width) in [0, 1], 1 where there is
        most of it in that image. A network that judges faces is shown the largest face, if there is
        one. None where the network does not look at places (see `trainer.gradcam`).
        """
        draw = self._explainer if images else None
        if not draw:
            return None
        if self.whole or not self.faces:
            pixels = np.stack([image.pixels for image in images])
        else:
            pixels = largest_faces(images, self.faces.finder.find(images), self.main.spec)
        logits = self.main.logits(pixels) / self.main.temperature
        maps = draw(pixels, probability(logits) >= self.info.threshold)
        return list(zip(pixels, maps, strict=True))

    @cached_property
    def _explainer(self) -> Explainer | None:
        from trainer.gradcam import explainer

        return explainer(self.main.network.model)

    def warm(self) -> None:
        """Make the first call as fast as the later ones."""
        for network in (self.faces, self.whole or self.main):
            if network:
                network.warm()

    def _verdict(self, answer: Answer) -> Verdict:
        happy, sad = CLASSES
        by_faces, by_whole = DECIDED_BY
        decided_by = by_faces if answer.faces else by_whole
        if answer.p_sad >= self.info.threshold:
            return Verdict(sad, answer.p_sad, answer.p_sad, decided_by, answer.faces)
        return Verdict(happy, 1 - answer.p_sad, answer.p_sad, decided_by, answer.faces)


def load(where: str, limits: FaceLimits = FaceLimits()) -> Bundle:
    """Verify and load the bundle at `where`: a folder, a .zip, or `default`.

    Raises:
        BundleError: it is missing, damaged, not what its hash says, or of another format.
    """
    with _folder(where) as folder:
        info, sha256, stored = _verified(folder, where)
    try:
        stages = {
            stage.file: Predictor(stored[stage.file], stage.temperature) for stage in info.stages
        }
        detector = Detector(stored[DETECTOR_FILE]) if info.faces else None
    except BundleError as error:
        raise BundleError(f"The model bundle {where} cannot be used: {error}") from error
    for stage in info.stages:
        if stages[stage.file].spec != stage.input:
            raise BundleError(
                f"The model bundle {where} is damaged: the network in {stage.file} has another "
                "input."
            )
    return Bundle(
        info,
        sha256,
        faces=FaceJudge(FaceFinder(detector, limits, spotter()), stages[info.faces.file])
        if detector and info.faces
        else None,
        whole=stages[info.whole.file] if info.whole else None,
    )


def inspect(where: str) -> tuple[BundleInfo, str]:
    """What the bundle at `where` says of itself, and the hash that stands for all of it.

    Raises:
        BundleError: as `load`, but that its networks are not loaded.
    """
    with _folder(where) as folder:
        info, sha256, _ = _verified(folder, where)
    return info, sha256


def copy(where: str, to: Path) -> None:
    """Write what belongs to the bundle at `where` into the new folder `to`, which others may read.

    Raises:
        BundleError: as `inspect`.
        OSError: `to` exists, or cannot be written.
    """
    with _folder(where) as folder:
        _, _, stored = _verified(folder, where)
        files = {INFO_FILE: (folder / INFO_FILE).read_bytes()}
        for name, network in stored.items():
            files |= network.files(name)
        files |= {name: (folder / name).read_bytes() for name in EXTRAS if (folder / name).exists()}
    to.mkdir()
    to.chmod(0o755)
    for name, content in files.items():
        with open(to / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        (to / name).chmod(0o644)


def _stored(folder: Path, file: str) -> StoredNetwork:
    return StoredNetwork(*((folder / name).read_bytes() for name in file_names(file)))


def save(folder: Path, bundle: Bundle, extras: Mapping[str, bytes]) -> None:
    """Write a bundle to the new `folder`; `extras`: further files by name.

    The hashes in its `info` are replaced by those of what is written. The folder
    appears whole or not at all.

    Raises:
        BundleError: `folder` exists or cannot be written.
    """
    require_new(folder)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".moodsort-") as temporary:
            draft = Path(temporary) / "bundle"
            draft.mkdir()
            models = _model_files(bundle)
            info = replace(bundle.info, files=_hashes(models))
            (draft / INFO_FILE).write_text(info.to_json())
            extras = {**extras, **models}
            for name, content in extras.items():
                (draft / name).write_bytes(content)
            draft.rename(folder)
    except OSError as error:
        raise BundleError(f"The bundle {folder} cannot be written: {error}.") from None


def _model_files(bundle: Bundle) -> dict[str, bytes]:
    """The files of its networks by name."""
    files: dict[str, bytes] = {}
    if bundle.faces and bundle.info.faces:
        files |= bundle.faces.predict.network.files(bundle.info.faces.file)
        files |= bundle.faces.finder.network.files(DETECTOR_FILE)
    if bundle.whole and bundle.info.whole:
        files |= bundle.whole.network.files(bundle.info.whole.file)
    return files


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


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
    """Just the known members, wherever one folder inside holds them."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                name = Path(member.filename).name
                if name not in (INFO_FILE, *MODEL_FILES):
                    continue
                if member.file_size > LARGEST_MEMBER:
                    raise BundleError(f"{name} in {archive} is too large to be true.")
                (to / name).write_bytes(zipped.read(member))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise BundleError(f"{archive} is damaged: {error}.") from None
    except (ValueError, OSError, RuntimeError, EOFError) as error:
        raise BundleError(f"{archive} is no model bundle: {error}.") from None


def _verified(folder: Path, where: str) -> tuple[BundleInfo, str, dict[str, StoredNetwork]]:
    """What the bundle says of itself, the hash that stands for all of it, and its networks."""
    try:
        text = (folder / INFO_FILE).read_bytes()
        info = BundleInfo.from_json(text.decode())
        stored = {file: _stored(folder, file) for file in info.networks}
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise BundleError(f"{where} is no model bundle: {name} is missing.") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"The model bundle {where} cannot be used: {error}.") from None
    found: dict[str, str] = {}
    for file, network in stored.items():
        found |= _hashes(network.files(file))
    for name, sha256 in info.files.items():
        if found[name] != sha256:
            raise BundleError(
                f"The model bundle {where} is damaged or was changed: "
                f"{name} does not have the hash that {INFO_FILE} names."
            )
    return info, hashlib.sha256(text).hexdigest(), stored


def face_finder(limits: FaceLimits = FaceLimits()) -> FaceFinder:
    """What finds the faces that networks learn from; it comes with moodsort."""
    with _folder(SHIPPED) as folder:
        return FaceFinder(Detector(_stored(folder, DETECTOR_FILE)), limits)


def spotter() -> Spotter:
    """What says where tiny faces may be; it comes with moodsort."""
    with _folder(SHIPPED) as folder:
        return Spotter(_stored(folder, SPOTTER_FILE))
