"""What can go wrong in the trainer, each with a sentence for the person who reads it."""


class TrainerError(Exception):
    """The base of all errors of this package; its text is meant to be shown as it is."""


class DataError(TrainerError):
    """The data set cannot be trained or evaluated on."""


class BundleError(TrainerError):
    """A model bundle is missing, damaged, tampered with, or of another format."""


class ImageError(TrainerError):
    """One image cannot be decoded.

    `code` is a stable word for programs (`empty`, `truncated`, `not_an_image`, `unsupported`,
    `too_large`, `damaged`); the text is a sentence for people.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)  # Both, so that it can be sent to another process.
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return self.detail
