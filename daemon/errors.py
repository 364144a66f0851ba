"""What can go wrong in the service, each with a sentence for the person who reads it."""


class ServiceError(Exception):
    """The base of all errors of this package; its text is meant to be shown as it is."""


class SettingsError(ServiceError):
    """A setting is no good: unknown, malformed, against another, or of no usable model."""


class InboxHeld(ServiceError):
    """Another process works on the same inbox; the text says which."""
