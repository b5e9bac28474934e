import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from medcontext.errors import InputError
from medcontext.reporting.content import make_page, read_content, shown_case
from medcontext.reporting.make import read_case
from medcontext.reporting.page import pack_case, render
from medcontext.reporting.serve import HOST, Server, make_server


@pytest.fixture
def server() -> Iterator[Server]:
    def case(index: int) -> str:
        if index == 1:
            raise InputError("b.nii.gz is damaged.")
        return json.dumps({"index": ["a", "b"].index("a") if index == 0 else [][index]})

    with make_server(lambda: "<p>é</p>", case, version=lambda: "7") as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def get(server: Server, path: str, host: str = HOST, token: str | None = None) -> tuple[int, str]:
    """The answer to a path below the token."""
    address = f"http://{HOST}:{server.server_port}/{server.token if token is None else token}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers={"Host": host})) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_pages_and_cases_are_handed_out(server: Server) -> None:
    assert get(server, "/") == (200, "<p>é</p>")
    assert get(server, "/?again") == (200, "<p>é</p>")
    assert get(server, "/case/0") == (200, '{"index": 0}')
    assert get(server, "/version") == (200, "7")


def test_what_is_wrong_is_said_in_the_answer(server: Server) -> None:
    assert get(server, "/case/1") == (422, "b.nii.gz is damaged.")
    assert get(server, "/case/2")[0] == 404
    for path in ("/case/-1", "/case/../../etc/passwd", "/etc/passwd", "/case/0/image", "/case/" + "1" * 5000):
        assert get(server, path)[0] == 404, path


def test_only_this_machine_is_served(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("token", ["", "guess", "%C3%A9"])
def test_without_the_token_nothing_is_served(server: Server, token: str) -> None:
    for path in ("/", "/case/0", "/version"):
        assert get(server, path, token=token)[0] == 404
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert len(server.token) > 30


def test_only_requests_for_this_machine_are_answered(server: Server) -> None:
    for host in (f"127.0.0.1:{server.server_port}", "localhost:9000", "LOCALHOST", "[::1]:80"):
        assert get(server, "/", host)[0] == 200, host
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1.evil.example", "[::1", ""):
        assert get(server, "/", host)[0] == 403, host


def test_a_browser_that_leaves_is_no_error(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (BrokenPipeError, ConnectionResetError, RuntimeError):
        try:
            raise error
        except (OSError, RuntimeError):
            server.handle_error(None, (HOST, 1))
        assert ("RuntimeError" in capsys.readouterr().err) == (error is RuntimeError)


def test_a_port_that_is_taken_is_refused(server: Server) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        make_server(str, str, server.server_port)


def test_a_served_page_holds_no_volumes(arguments: list[str], evaluated: dict[str, Path]) -> None:
    content = read_content(arguments)
    html = render(make_page(content, [shown_case(content, name) for name in content.files]))
    assert 'id="case-0"' not in html
    assert "connect-src data: 'self'" in unescape(html)
    assert set(json.loads(pack_case(read_case(content, "ball_1")))["volumes"]) == {"image", "truth", "0", "1"}
