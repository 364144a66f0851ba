"""What the columns of the view `results` mean, for people."""

from __future__ import annotations

RESULTS = {
    "id": "the number of the row; grows with the time of the claim",
    "source_path": "where the file was dropped; bytes that are no text stand in it as \\xNN",
    "destination_path": "where it was filed; null until that is decided",
    "state": "claimed, decided, filed or failed; while a filed file moves, correcting or resorting",
    "label": "what was decided: happy, sad or unsure; null of a file that failed",
    "probability": (
        "how probable that label is, 0 to 1; of an unsure image, that of the likelier one"
    ),
    "p_sad": "how probable it is that the image is sad, 0 to 1",
    "model": "the name of the model that decided",
    "width": "pixels of the upright image",
    "height": "pixels of the upright image",
    "format": "JPEG, PNG and so on, by the content",
    "size_bytes": "of the file",
    "sha256": "of the file's bytes, in hex; null where it could not be read",
    "claimed_at": "when it was taken; what --since and --until are about",
    "decided_at": "when it was decided",
    "filed_at": "when it lay at its destination",
    "error_code": "why it failed; the codes are in the README",
    "error_detail": "the same as a sentence",
    "corrected_label": "happy or sad, if a person has said so; null otherwise",
    "decided_by": "faces or whole_image",
    "corrected_at": "when a person last said so",
    "missing_since": (
        "when a service noticed that the file is not at its destination any more; null "
        "if it is there"
    ),
}
"""By column, in the order of the view."""
