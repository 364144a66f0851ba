"""What can go wrong with the database, each with a sentence for the person who reads it."""


class LedgerError(Exception):
    """The base of all errors of this package: the database cannot be used as it is."""


class LedgerUnavailable(LedgerError):
    """The database does not take this now (locked, disk full, gone); trying again may help."""


class LedgerConflict(LedgerUnavailable):
    """Another process was faster: the call, repeated, sees what it wrote."""


class ClaimsLost(LedgerError):
    """Others took this service for dead, and have taken over what it had claimed."""

    def __init__(self) -> None:
        super().__init__(
            "Other services took this one for dead, for it gave no sign of life, and have taken "
            "over its work. No image is lost: started again, it works with them."
        )


class ExportError(LedgerError):
    """An export cannot be written as it is asked for; the text says why."""


def said(error: BaseException) -> str:
    """What a database says, on one line; what SQLAlchemy adds of its own is for programmers."""
    return " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
