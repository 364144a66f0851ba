"""What a page is asked for: the arguments of its address -> a filter and a place in its order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from db.queries import Filter
from db.terms import Order

SHOWN = {
    "": "all",
    "happy": "happy",
    "sad": "sad",
    "unsure": "unsure",
    "failed": "failed",
}
"""What may be shown, and how it is called."""

CHECKED = {"": "or not", "no": "not yet", "yes": "by a person"}
"""Whether a person has said what an image is."""

ORDERS: dict[str, str] = {
    Order.NEWEST: "newest first",
    Order.OLDEST: "oldest first",
    Order.LEAST_CERTAIN: "least certain first",
    Order.MOST_CERTAIN: "most certain first",
}

LARGEST_ID = 2**63 - 1


class Misasked(ValueError):
    """An argument is no good; the text says which and why."""


@dataclass(frozen=True)
class Asked:
    """The answers of the form, as text, and the row that the page follows or leads up to.

    `since` and `until` are days of here, and both are included. `probability` is the highest.
    """

    show: str = ""
    checked: str = ""
    order: Order = Order.NEWEST
    since: str = ""
    until: str = ""
    probability: str = ""
    name: str = ""
    after: int | None = None
    before: int | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> Asked:
        """From the arguments of an address.

        Raises:
            Misasked: one has a value that it cannot have.
        """
        texts = {key: arguments.get(key, "").strip() for key in ("since", "until", "probability")}
        return cls(
            show=_one_of(SHOWN, arguments, "show"),
            checked=_one_of(CHECKED, arguments, "checked"),
            order=Order(_one_of(ORDERS, arguments, "order", Order.NEWEST)),
            name=arguments.get("name", "").strip(),
            after=_id(arguments, "after"),
            before=_id(arguments, "before"),
            **texts,
        )

    @property
    def filter(self) -> Filter:
        """What is wanted of the database.

        Raises:
            Misasked: a day is none, or the probability is no number.
        """
        is_failed = self.show == "failed"
        return Filter(
            label=None if is_failed else self.show or None,
            state="failed" if is_failed else None,
            corrected={"": None, "yes": True, "no": False}[self.checked],
            since=_day("since", self.since),
            until=_day("until", self.until, later=1),
            max_probability=_share("probability", self.probability),
            path=self.name or None,
            order=self.by,
        )

    @property
    def by(self) -> Order:
        """The order; what failed has no certainty to be in order by."""
        by_certainty = self.order in (Order.LEAST_CERTAIN, Order.MOST_CERTAIN)
        return Order.NEWEST if self.show == "failed" and by_certainty else self.order

    def address(self, **place: int) -> str:
        """Of a page that is asked for in the same way, `after` or `before` a row."""
        form = ("show", "checked", "order", "since", "until", "probability", "name")
        said = {key: str(getattr(self, key)) for key in form if getattr(self, key)}
        if self.order is Order.NEWEST:
            del said["order"]
        said |= {key: str(id) for key, id in place.items()}
        return f"/?{urlencode(said)}" if said else "/"


def _one_of(
    allowed: Mapping[str, str], arguments: Mapping[str, str], key: str, default: str = ""
) -> str:
    said = arguments.get(key) or default
    if said not in allowed:
        raise Misasked(f"{key} cannot be {said!r}.")
    return said


def _id(arguments: Mapping[str, str], key: str) -> int | None:
    said = arguments.get(key)
    if not said:
        return None
    if not (said.isascii() and said.isdigit() and int(said) <= LARGEST_ID):
        raise Misasked(f"{key} is no number of a row: {said!r}.")
    return int(said)


def _day(key: str, said: str, later: int = 0) -> datetime | None:
    """The midnight at which it begins here, or so many days later."""
    if not said:
        return None
    try:
        return (datetime.strptime(said, "%Y-%m-%d") + timedelta(days=later)).astimezone()
    except (ValueError, OverflowError):
        raise Misasked(f"{key} is no day like 2026-01-31: {said!r}.") from None


def _share(key: str, said: str) -> float | None:
    try:
        share = float(said) if said else None
    except ValueError:
        share = -1.0
    if share is not None and not 0 <= share <= 1:
        raise Misasked(f"{key} is no number from 0 to 1: {said!r}.")
    return share
