"""The pages: a grid of decisions, one image by itself, and the corrections that they send."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from flask import Flask, abort, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.http import generate_etag

from daemon import correcting
from daemon.describing import describe, name
from daemon.errors import ServiceError
from daemon.gallery.access import Access
from daemon.gallery.asking import CHECKED, LARGEST_ID, ORDERS, SHOWN, Asked, Misasked
from daemon.gallery.counting import Counter
from daemon.pictures import KEPT_SECONDS, SIDES, NoPicture, Pictures
from daemon.settings import Settings
from db import queries, statistics
from db.engine import reading
from db.errors import LedgerError
from db.paging import page
from db.schema import JUDGED
from db.text import local, one_line, utc

log = logging.getLogger(__name__)

PAGE = 60
"""Images of a page."""

LARGEST_REQUEST = 16 * 1024

LABELS = ("happy", "sad")
"""What a person may say."""


def create_app(settings: Settings, pictures: Pictures, access: Access) -> Flask:
    """The application, for a WSGI server with several threads.

    Each request opens the database for itself, which takes 2 ms: so a database that was put in the
    place of another, or brought up to date, is noticed.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    access.guard(app)
    _use_in_templates(app, settings, access)
    _show_errors(app)
    counter = Counter(lambda: _tally(settings.database))

    @app.get("/")
    def grid() -> ResponseReturnValue:
        asked = Asked.of(request.args)
        wanted = asked.filter
        with reading(settings.database) as engine:
            found = page(engine, wanted, PAGE, after=asked.after, before=asked.before)
        return render_template(
            "grid.html", asked=asked, page=found, tally=counter.tally(), back=asked.address()
        )

    @app.get("/counts")
    def counts() -> ResponseReturnValue:
        tally = counter.tally()
        return jsonify(
            tally.labels
            | {"failed": tally.failed, "checked": tally.corrected, "decided": tally.decided}
        )

    @app.get("/images/<int:id>")
    def image(id: int) -> ResponseReturnValue:
        return render_template("image.html", row=_row(settings.database, id))

    @app.get("/images/<int:id>/<any(thumbnail, picture):kind>")
    def picture(id: int, kind: str) -> ResponseReturnValue:
        try:
            jpeg = pictures.of(_row(settings.database, id), SIDES[kind])
        except NoPicture as why:
            abort(404, str(why))
        answer = app.response_class(jpeg, mimetype="image/jpeg")
        answer.headers["Cache-Control"] = f"private, max-age={KEPT_SECONDS}"
        answer.set_etag(generate_etag(jpeg))
        return answer.make_conditional(request)

    @app.post("/images/<int:id>/label")
    def correct(id: int) -> ResponseReturnValue:
        label = request.form.get("label", "")
        if label not in LABELS:
            abort(400, "Say happy or sad.")
        path = Path(_row(settings.database, id)["destination_path"] or "/")
        [answer] = correcting.correct(settings, [path], label)
        counter.expire()
        if isinstance(answer, correcting.Refused):
            abort(409, answer.reason)
        if "card" in request.args:
            return render_template("card.html", row=_row(settings.database, id))
        return redirect(f"/images/{id}", 303)

    return app


def _tally(database: str) -> statistics.Tally:
    with reading(database) as engine:
        return statistics.tally(engine)


def _row(database: str, id: int) -> dict[str, Any]:
    with reading(database) as engine:
        row = queries.one(engine, id) if id <= LARGEST_ID else None
    if row is None:
        abort(404, f"There is no image {id}.")
    return row


def _use_in_templates(app: Flask, settings: Settings, access: Access) -> None:
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(local=local, utc=utc, one_line=one_line, name=name)
    app.jinja_env.globals.update(
        SHOWN=SHOWN,
        CHECKED=CHECKED,
        ORDERS=ORDERS,
        LABELS=LABELS,
        has_picture=lambda row: row["state"] in JUDGED and not row["missing_since"],
        inbox=str(settings.folders["inbox"]),
        secret=access.secret,
        describe=describe,
    )


def _show_errors(app: Flask) -> None:
    """As sentences: on a page, or as text where a script or an image asked."""

    def show(status: int, text: str) -> ResponseReturnValue:
        if "text/html" in request.headers.get("Accept", ""):
            return render_template("error.html", text=text), status
        return app.response_class(f"{text}\n", status, mimetype="text/plain")

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> ResponseReturnValue:
        return show(error.code or 500, error.description or error.name)

    @app.errorhandler(Misasked)
    def misasked(error: Misasked) -> ResponseReturnValue:
        return show(400, str(error))

    @app.errorhandler(LedgerError)
    @app.errorhandler(ServiceError)
    def unable(error: Exception) -> ResponseReturnValue:
        return show(503, str(error))

    @app.errorhandler(OSError)
    def no_access(error: OSError) -> ResponseReturnValue:
        return show(503, f"{error.filename}: {error.strerror}." if error.filename else str(error))

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> ResponseReturnValue:
        log.exception("a page failed")
        return show(500, "Something went wrong that should not. The terminal says more.")
