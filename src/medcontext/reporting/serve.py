"""A page and its cases from a server on this machine, for as long as the command runs."""

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import compare_digest, token_urlsafe
from typing import Any
from urllib.parse import urlsplit

from medcontext.console import console
from medcontext.errors import InputError

HOST = "127.0.0.1"
OWN_NAMES = (HOST, "localhost", "::1")


class Server(ThreadingHTTPServer):
    """A server whose addresses begin with a token, because other accounts of this machine reach its port too."""

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.token = token_urlsafe()
        super().__init__((HOST, port), handler)

    @property
    def url(self) -> str:
        """The page's address; the page itself uses relative ones."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves before the answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(page: Callable[[], str], case: Callable[[int], str], port: int = 0, version: Callable[[], str] = str) -> None:
    """Serve until interrupted.

    Args:
        page: makes the HTML; called for every visit.
        case: makes the answer to `case/INDEX`, JSON; an InputError or IndexError is shown in the page instead.
        port: 0 for any that is free.
        version: of what is shown; a page of a training asks for it, and loads anew when it changes.

    Raises:
        InputError: if the port is taken.
    """
    with make_server(page, case, port, version) as server:
        console.print(f"Report: {server.url}  (Ctrl-C ends it)", soft_wrap=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def make_server(
    page: Callable[[], str], case: Callable[[int], str], port: int = 0, version: Callable[[], str] = str
) -> Server:
    """The server of `serve`, not yet running."""

    class Handler(BaseHTTPRequestHandler):
        server: Server

        def do_GET(self) -> None:
            token, _, name = self.path.partition("?")[0].removeprefix("/").partition("/")
            number = re.fullmatch("case/([0-9]{1,9})", name)
            try:
                if not is_own_name(self.headers.get("Host", "")):
                    self.answer(403, "text/plain", f"Open the report at {HOST} or localhost.")
                elif not compare_digest(token.encode(), self.server.token.encode()):
                    self.answer(404, "text/plain", "Not found. The address that the command printed has more in it.")
                elif name == "":
                    self.answer(200, "text/html", page())
                elif name == "version":
                    self.answer(200, "text/plain", version())
                elif number:
                    self.answer(200, "application/json", case(int(number[1])))
                else:
                    self.answer(404, "text/plain", "Not found.")
            except InputError as error:
                self.answer(422, "text/plain", str(error))
            except IndexError:
                self.answer(404, "text/plain", "There is no such case.")

        def answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Visits are nobody's business."""

    try:
        return Server(port, Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "it must be 0 to 65535"
        raise InputError(f"Port {port} cannot be used: {reason}. Choose another --port, or 0.") from None


def is_own_name(host: str) -> bool:
    """Whether a request's `Host` is this machine, on any port (SSH forwards other ones).

    Else a page from elsewhere, whose name its owner makes resolve to 127.0.0.1, could read the report.

    >>> is_own_name("localhost:9000"), is_own_name("[::1]:80"), is_own_name("evil.example")
    (True, True, False)
    """
    try:
        return urlsplit(f"//{host}").hostname in OWN_NAMES
    except ValueError:
        return False
