"""The demo's page: who may use it, what it shows of hostile text, how it looks in a browser."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cloister.demo.parties.director import Director
from cloister.demo.parties.page import Page
from cloister.demo.parties.trials import Outcome, Trial

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_NUMBERS = (b"true", b"false", b"0.0", b"1.0", b"-1", b"99", b"1e400", b"NaN", b"null", b"[0]", b'"0"')
NO_NAMES = (b"[]", b"null", b"true", b'"east"', b'"\\ud800"')
HOSTILE = "<img src=x onerror=\"document.title='stolen'\"><script>document.title='stolen'</script>"


class Still(Director):
    """A director without processes: its state is what a test puts there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ordered: list[str] = []
        self.state.step = "ready"

    async def attack(self, trial: Trial) -> Outcome:
        self.ordered.append(trial)
        return Outcome(did=HOSTILE, stopped=True, by=HOSTILE, said=HOSTILE)

    async def ask(self, hospital: str, number: int = 0) -> None:
        self.ordered.append(f"{hospital} {number}")


def event(party: str, kind: str, exchange: int = 0, **facts: Any) -> dict[str, Any]:
    return {
        "event": kind,
        "party": party,
        "text": HOSTILE,
        "facts": facts,
        "at": 1.0,
        "exchange": exchange,
    }


def filled(director: Still) -> None:
    """Hostile text wherever a party's words are shown."""
    passage = {"path": HOSTILE, "lines": "1-2", "text": HOSTILE + "x" * 300}
    receipt = {
        "model": {"name": HOSTILE, "root": "00" * 32},
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "consent": "sha256:" + "ab" * 32,
        "request": "A" * 43,
        "response": "B" * 43,
    }
    failed = [{"check": HOSTILE, "found": "ab" * 64, "expected": ""}]
    asked = {
        "looked_for": HOSTILE,
        "passages": [passage],
        "question": HOSTILE,
        "answer": HOSTILE,
        "model": HOSTILE,
    }
    wire = {"line": "POST /ohttp", "status": 200, "sent": 1, "received": 2}
    director.state.events = [
        event("lab", "key", hash="ab"),
        event("north", "verdict", 1, word="SIMULATED", passed=65, failed=[], accepted=True),
        event("north", "exchange", 1, **asked),
        event("operator", "wire", 1, **wire, sent_hex="ab" * 48, received_hex="cd" * 48),
        event("operator", "bus", 1, records=3, hex="ef" * 24),
        event("operator", "bus", 1, records=4, hex="ef" * 24),
        event("north", "receipt", 1, receipt=receipt),
        event("auditor", "audited", 1, word="SIMULATED", accepted=True, of="north", failed=[], tokens=2),
        event("south", "verdict", 0, word="REJECTED", passed=1, failed=failed, accepted=False),
        event("lab", "audit", 0, decision="denied", about=HOSTILE),
    ]
    outcome = {"did": HOSTILE, "stopped": True, "by": HOSTILE, "said": HOSTILE * 3, "clear": True}
    director.state.trials = dict.fromkeys(Trial, outcome)
    director.state.consent = {
        "digest": "sha256:" + "ab" * 32,
        "parties": ["lab", "north"],
        "names": [HOSTILE],
        "output": {"max_tokens": 5, "logprobs": False},
    }


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[tuple[Page, Still]]:
    director = Still(tmp_path)
    made = Page(director)
    await made.start()
    yield made, director
    await made.stop()


async def status(method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b"") -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers or {}, data=body) as response,
    ):
        return response.status


def origin(page: Page) -> str:
    return page.url.rsplit("/", 2)[0]


async def test_only_who_has_the_token_may_look(page: tuple[Page, Still]) -> None:
    url = page[0].url
    assert url.startswith("http://127.0.0.1:")
    assert len(url.rstrip("/").rsplit("/", 1)[1]) >= 32
    for name in ("", "style.css", "page.js"):
        assert await status("GET", url + name) == 200
    wrong = f"{origin(page[0])}/{'x' * 32}/"
    for path in (wrong, wrong + "events", origin(page[0]) + "/", f"{origin(page[0])}//"):
        assert await status("GET", path) in (403, 404)
    for name in ("../run.py", "page.py", "%2e%2e%2frun.py"):
        assert await status("GET", url + name) in (403, 404)


async def test_other_names_for_this_host_are_refused(page: tuple[Page, Still]) -> None:
    """DNS rebinding: the browser says by which name it came."""
    for host in ("attacker.example", "localhost", "127.0.0.1", "127.0.0.1:1"):
        assert await status("GET", page[0].url, {"host": host}) == 403


async def test_other_sites_can_neither_look_nor_order(page: tuple[Page, Still]) -> None:
    shown, director = page
    order = json.dumps({"trial": "wire"}).encode()
    json_type = {"content-type": "application/json"}
    foreign = json_type | {"origin": "https://attacker.example"}
    assert await status("POST", shown.url + "attack", foreign, order) == 403
    assert await status("POST", shown.url + "attack", json_type, order) == 403  # no origin at all
    assert await status("GET", shown.url + "events", {"origin": "https://attacker.example"}) == 403
    assert await status("GET", shown.url, {"sec-fetch-site": "cross-site"}) == 403
    own = {"origin": origin(shown)}
    form = own | {"content-type": "application/x-www-form-urlencoded"}
    assert await status("POST", shown.url + "attack", form, order) == 400
    assert director.ordered == []
    assert await status("POST", shown.url + "attack", json_type | own, order) == 202
    await asyncio.sleep(0)
    assert director.ordered == ["wire"]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{", b"null", b"7", b"\xff", b"[" * 4000, b'{"a":' * 800, b"1" * 4096),
        *(
            b'{"trial": "none"}',
            b'{"trial": 1}',
            b'{"trial": ["wire"]}',
            b'{"trial": null}',
            b'{"trial": {}}',
        ),
        *(b'{"number": true}', b'{"hospital": "north"}', b'{"hospital": "north", "number": "0"}'),
        *(b'{"hospital": "north", "number": %s}' % number for number in NO_NUMBERS),
        *(
            b'{"hospital": %s, "number": 0}' % name
            for name in (b"[]", b"null", b"true", b'"east"', b'"\\ud800"')
        ),
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_orders_that_are_none_are_refused(page: tuple[Page, Still], body: bytes) -> None:
    headers = {"origin": origin(page[0]), "content-type": "application/json"}
    assert await status("POST", page[0].url + "attack", headers, body) == 400
    assert await status("POST", page[0].url + "ask", headers, body) == 400
    assert page[1].ordered == []


async def test_nothing_is_ordered_while_something_is_under_way(page: tuple[Page, Still]) -> None:
    headers = {"origin": origin(page[0]), "content-type": "application/json"}
    page[1].state.busy = "an attack"
    assert await status("POST", page[0].url + "attack", headers, b'{"trial": "wire"}') == 409
    ask = b'{"hospital": "north", "number": 0}'
    assert await status("POST", page[0].url + "ask", headers, ask) == 409


async def test_the_page_loads_nothing_from_elsewhere(page: tuple[Page, Still]) -> None:
    async with aiohttp.ClientSession() as session:
        for name in ("", "style.css", "page.js"):
            async with session.get(page[0].url + name) as response:
                text = await response.text()
                assert "default-src 'none'" in response.headers["content-security-policy"]
                assert response.headers["referrer-policy"] == "no-referrer"
                assert "://" not in text
                assert "innerHTML" not in text


async def test_events_bring_the_whole_state_and_every_change(page: tuple[Page, Still]) -> None:
    shown, director = page
    async with aiohttp.ClientSession() as session, session.get(shown.url + "events") as response:
        assert json.loads((await _event(response.content))["data"])["busy"] == ""
        director.state.busy = "something"
        shown.changed()
        assert json.loads((await _event(response.content))["data"])["busy"] == "something"


async def _event(stream: aiohttp.StreamReader) -> dict[str, str]:
    fields: dict[str, str] = {}
    while line := (await asyncio.wait_for(stream.readline(), 5)).decode().rstrip("\n"):
        name, _, value = line.partition(": ")
        fields[name] = value
    return fields


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed; .ci/run installs it")
        pytest.skip("chromium is not installed")
    from playwright.async_api import async_playwright

    async with async_playwright() as play:
        started = await play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        await started.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
async def test_in_a_browser(page: tuple[Page, Still], browser: Any, width: int, scheme: str) -> None:
    """Hostile text stays text, nothing overflows, the keyboard is enough, colours can be read."""
    shown, director = page
    filled(director)
    context = await browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    view = await context.new_page()
    faults: list[str] = []
    view.on("pageerror", lambda error: faults.append(str(error)))
    view.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    await view.goto(shown.url)
    await view.get_by_text("Running. Ask").wait_for()
    assert await view.title() == "Cloister: six parties, one worker"
    assert await view.locator("img, main script").count() == 0
    assert "[object" not in await view.locator("body").inner_text()
    assert await view.get_by_text("bus between CPU and GPU").count() == 2
    assert await view.get_by_text("SIMULATED", exact=True).first.is_visible()
    assert await view.locator("#views .card").count() == 6
    assert await view.locator("#trials .badge.good").count() == len(Trial)
    widths = await view.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
    small = (
        "[...document.querySelectorAll('button')].filter(b => b.getBoundingClientRect().height < 40).length"
    )
    assert await view.evaluate(small) == 0
    await view.locator("#trial-splice button").focus()
    await view.keyboard.press("Enter")
    await view.wait_for_timeout(300)
    assert director.ordered == ["splice"]
    assert faults == []


@pytest.mark.parametrize("path", ["attack", "ask"])
async def test_a_refusal_says_what_may_be_ordered(page: tuple[Page, Still], path: str) -> None:
    headers = {"origin": origin(page[0]), "content-type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(page[0].url + path, headers=headers, data=b'{"number": true}') as response,
    ):
        text = await response.text()
    assert response.status == 400 and ("north 0 to " in text if path == "ask" else "wire" in text)


async def raw(page: Page, request: bytes) -> bytes:
    """The status line of the answer to bytes that no client library sends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(origin(page).rsplit(":", 1)[1]))
    writer.write(request)
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return line


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /%ff%fe/events HTTP/1.1\r\nhost: {host}\r\n\r\n",
        b"GET /\xff/events HTTP/1.1\r\nhost: {host}\r\n\r\n",
        b"GET /{token}/%00 HTTP/1.1\r\nhost: {host}\r\n\r\n",
        b"GET /{token}/ HTTP/1.1\r\nhost: {host}\r\norigin: \xff\r\n\r\n",
        b"GET /{token}/ HTTP/1.1\r\n\r\n",
        b"PUT /{token}/ask HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncontent-length: 0\r\n\r\n",
        b"POST /{token}/ask HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncontent-type: ;;;\xff\r\n"
        b"content-length: 2\r\n\r\n{{}}",
        b"POST /{token}/ask HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncontent-length: 9000\r\n"
        b"content-type: application/json\r\n\r\n" + b" " * 9000,
        b"POST /{token}/ask HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncontent-length: 9\r\n"
        b"content-type: application/json\r\ncontent-encoding: gzip\r\n\r\nnot gzip!",
    ],
    ids=lambda text: repr(text[:24]),
)
async def test_no_request_is_an_error_of_the_page(page: tuple[Page, Still], request_: bytes) -> None:
    host = origin(page[0]).removeprefix("http://").encode()
    token = page[0].url.rstrip("/").rsplit("/", 1)[1].encode()
    filled_in = request_.replace(b"{host}", host).replace(b"{token}", token).replace(b"{{}}", b"{}")
    assert (await raw(page[0], filled_in)).split(b" ")[1][:1] == b"4"
    assert page[1].ordered == []
