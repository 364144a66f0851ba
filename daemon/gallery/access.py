"""Who may see the pages, and which requests are theirs.

Pages of strangers run in the same browser. They may send requests here, but get no answer to read;
so what changes something must carry a secret that only our own pages have (a CSRF token).
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from flask import Flask, Response, abort, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from daemon.errors import SettingsError
from daemon.hosts import is_loopback, is_one_of

COOKIE_SECONDS = 30 * 24 * 3600

SHORTEST_TOKEN = 16
"""Characters of a token that is not to be guessed."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Access:
    """What is asked of each request to one address."""

    def __init__(self, host: str, port: int, token: str | None) -> None:
        """For what listens there; without a `token`, all who reach it may come in."""
        self._cookie = f"moodsort-gallery-{port}"  # Browsers keep ports no more apart than this.
        self._names = {"localhost", host.lower()}
        if not is_loopback(host):
            self._names.add(socket.gethostname().lower())
        self._token = token
        self.secret = secrets.token_urlsafe()
        """What our pages send with what changes something."""

    def guard(self, app: Flask) -> None:
        """Check all requests of the application, and tell the browser what its pages may do."""
        app.before_request(self._check)
        app.after_request(self._restrict)

    def _check(self) -> AnyResponse | None:
        if not is_one_of(self._names, request.headers.get("Host", "")):
            abort(403, "This address is not known by that name. Use localhost, or its number.")
        if self._token is not None and (answer := self._let_in(self._token)):
            return answer
        if request.method not in ("GET", "HEAD") and not self._is_from_our_page():
            abort(403, "This page is of an earlier start, or of somebody else. Load it again.")
        return None

    def _let_in(self, token: str) -> AnyResponse | None:
        """None for who has shown the token before; who shows it now gets a cookie for it."""
        if _is(token, request.args.get("token")):
            answer = redirect(request.path)
            answer.set_cookie(
                self._cookie, token, max_age=COOKIE_SECONDS, httponly=True, samesite="Lax"
            )
            return answer
        if not _is(token, request.cookies.get(self._cookie)):
            abort(401, "Open the address with ?token=... that moodsort gallery has printed.")
        return None

    def _is_from_our_page(self) -> bool:
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        return site == "same-origin" and _is(self.secret, request.form.get("secret"))

    def _restrict(self, response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def token_for(host: str, file: Path | None) -> str | None:
    """The token to ask for: the first line of the file, or a new one; None where it is not needed.

    Raises:
        SettingsError: the file cannot be read, or what it says is too short.
    """
    if file is None:
        return None if is_loopback(host) else secrets.token_urlsafe()
    try:
        token = file.read_text().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"The token file {file} cannot be read: {reason}.") from None
    if len(token) < SHORTEST_TOKEN:
        raise SettingsError(f"The token in {file} has less than {SHORTEST_TOKEN} characters.")
    return token


def _is(secret: str, said: str | None) -> bool:
    return said is not None and secrets.compare_digest(secret.encode(), said.encode())
