"""What moodsort adds to Datasette: images where rows tell of them; and no way in for others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from datasette import hookimpl
from datasette.utils.asgi import Request, Response, asgi_send
from markupsafe import Markup

from daemon.hosts import is_one_of
from daemon.pictures import KEPT_SECONDS, SIDES, NoPicture, Pictures
from db import queries
from db.engine import reading
from db.errors import LedgerError
from db.schema import JUDGED
from db.text import one_line

hook: Callable[[Any], Any] = hookimpl

WIDTH = 160
"""Pixels at which thumbnails are shown."""

PATH = "/-/moodsort/{kind}/{id}"
ROUTE = "^" + PATH.format(kind=f"(?P<kind>{'|'.join(SIDES)})", id="(?P<id>[0-9]{1,18})") + "$"

HEADERS = {
    # Its own pages have scripts and styles within them.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Asgi = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Plugin:
    """Hooks of Datasette, which calls them by their names and with what they name."""

    __name__ = "moodsort"  # By which Datasette lists it.

    def __init__(self, database: str, pictures: Pictures, host: str) -> None:
        """For the pages of a database that are served at a host."""
        self._database = database
        self._pictures = pictures
        self._names = {"localhost", host.lower()}

    @hook
    def render_cell(self, row: Any, value: Any, column: str, datasette: Any) -> Markup | None:
        """The image of a row instead of, or above, what names it."""
        names = row.keys()
        if column == "image_id":
            id = value["value"] if isinstance(value, dict) else value  # Datasette follows keys.
            return _shown(datasette, id, str(id)) if isinstance(id, int) else None
        if column == "destination_path" and value and "id" in names and isinstance(row["id"], int):
            if "state" in names and row["state"] not in JUDGED:
                return None
            text = one_line(str(value))
            image = _shown(datasette, row["id"], Path(text).name)
            return Markup("{}<br>{}").format(image, text)
        return None

    @hook
    def register_routes(self) -> Sequence[tuple[str, Callable[..., Any]]]:
        """Where the images are."""
        return [(ROUTE, self.picture)]

    async def picture(self, request: Request, datasette: Any) -> Response:
        """An image by the number of its row, made anew: none of the bytes of the file."""
        await datasette.ensure_permissions(request.actor, ["view-instance"])
        about = request.url_vars
        try:
            jpeg = await asyncio.to_thread(self._draw, int(about["id"]), SIDES[about["kind"]])
        except (NoPicture, LedgerError, OSError) as why:
            return Response.text(f"{why}\n", status=404)
        kept = {"Cache-Control": f"private, max-age={KEPT_SECONDS}"}
        return Response(jpeg, headers=kept, content_type="image/jpeg")

    def _draw(self, id: int, side: int) -> bytes:
        with reading(self._database) as engine:
            row = queries.one(engine, id)
        if row is None:
            raise NoPicture(f"There is no image {id}.")
        return self._pictures.of(row, side)

    @hook
    def asgi_wrapper(self) -> Callable[[Asgi], Asgi]:
        """A guard before all pages."""

        def wrap(app: Asgi) -> Asgi:
            async def guarded(scope: dict[str, Any], receive: Any, send: Any) -> None:
                async def send_restricted(event: dict[str, Any]) -> None:
                    if event["type"] == "http.response.start":
                        event["headers"] = _restricted(event["headers"])
                    await send(event)

                if scope["type"] != "http":
                    await app(scope, receive, send)
                elif self._is_ours(scope):
                    await app(scope, receive, send_restricted)
                else:
                    said = "This address is not known by that name. Use localhost, or its number.\n"
                    await asgi_send(send_restricted, said, 403)

            return guarded

        return wrap

    def _is_ours(self, scope: dict[str, Any]) -> bool:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and is_one_of(self._names, hosts[0])


def _shown(datasette: Any, id: int, text: str) -> Markup:
    large, small = (
        datasette.urls.path(PATH.format(kind=kind, id=id)) for kind in ("picture", "thumbnail")
    )
    return Markup('<a href="{}"><img src="{}" alt="{}" width="{}" loading="lazy"></a>').format(
        large, small, text, WIDTH
    )


def _restricted(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    ours = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
    return [(n, v) for n, v in headers if n.lower() not in ours] + list(ours.items())
