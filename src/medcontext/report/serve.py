"""A page and its cases from a server on this machine, for as long as the command runs."""

from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from medcontext.console import console
from medcontext.errors import InputError

HOST = "127.0.0.1"


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
        console.print(f"Report: http://{HOST}:{server.server_port}/  (Ctrl-C ends it)", highlight=False)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def make_server(
    page: Callable[[], str], case: Callable[[int], str], port: int = 0, version: Callable[[], str] = str
) -> ThreadingHTTPServer:
    """The server of `serve`, not yet running."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            try:
                if path == "/":
                    self.answer(200, "text/html", page())
                elif path == "/version":
                    self.answer(200, "text/plain", version())
                elif path.startswith("/case/") and path[6:].isdecimal():
                    self.answer(200, "application/json", case(int(path[6:])))
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
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "it must be 0 to 65535"
        raise InputError(f"Port {port} cannot be used: {reason}. Choose another --port, or 0.") from None
