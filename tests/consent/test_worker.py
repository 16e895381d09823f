"""What a worker does with a consent: admission, output rules, the layer around the application."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation import CpuEvidence, LoadedModel, Workload
from client.searching import party_token
from enclave.consent.admission import admit, own_measurement
from enclave.consent.layer import ConsentLayer
from enclave.consent.rules import RuleBroken, govern
from enclave.documents.shelf import Documents, Folder
from enclave.gateway.plain import Message, Receive, Scope, Send
from sealing.consent import OutputRules, canonical_schema
from sealing.errors import ConsentRefused
from tests.consent.agreed import KEYS, MANIFEST, NOW, signed

CHAT = "/v1/chat/completions"
STRICT = OutputRules(max_tokens=16)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
SHAPED = OutputRules(max_tokens=16, schema=canonical_schema(SCHEMA))
WORKLOAD = Workload(
    software="test",
    models=(LoadedModel(name="faq", root=b"\x0a" * 32, owner=""),),
    adapters=(LoadedModel(name="sailor", root=b"\x0b" * 32, owner=""),),
    engine={},
    policies=(),
    consent="",
    clock="host",
)
DATA = {"letters": (b"\x0c" * 32, "")}
MEASURED = b"\x0d" * 48


def test_what_was_signed_for_starts() -> None:
    assert admit(signed(), WORKLOAD, measurement=MEASURED, data=DATA, now=NOW) == MANIFEST


OTHER = LoadedModel(name="other", root=b"\x0f" * 32, owner="")
DIFFERENT: list[tuple[dict[str, Any], str]] = [
    ({"measurement": b"\x0e" * 48}, "signed for code 0d0d"),
    ({"data": {}}, "documents letters is in the consent and is not loaded"),
    ({"data": DATA | {"x": (b"", "")}}, "documents x is loaded and is not in the consent"),
    ({"data": {"letters": (b"\x0f" * 32, "")}}, "documents letters is root 0f0f"),
    ({"data": {"letters": (b"\x0c" * 32, "ab" * 32)}}, "sealed by abab"),
    ({"workload": replace(WORKLOAD, models=(replace(OTHER, name="faq"),))}, "base model faq is root 0f0f"),
    ({"workload": replace(WORKLOAD, models=(*WORKLOAD.models, OTHER))}, "base model other is loaded"),
    ({"workload": replace(WORKLOAD, adapters=())}, "adapter sailor is in the consent"),
    ({"workload": replace(WORKLOAD, adapters=(*WORKLOAD.adapters, OTHER))}, "adapter other is loaded"),
    ({"now": MANIFEST.expires}, "expired"),
    ({"consent": signed(MANIFEST, "lab")}, "not every party"),
]


@pytest.mark.parametrize(("change", "said"), DIFFERENT)
def test_anything_else_does_not(change: dict[str, Any], said: str) -> None:
    case = {"consent": signed(), "workload": WORKLOAD, "measurement": MEASURED, "data": DATA, "now": NOW}
    case |= change
    with pytest.raises(ConsentRefused, match=said):
        admit(case.pop("consent"), case.pop("workload"), **case)


def test_evidence_that_the_worker_cannot_read_about_itself_does_not_pass() -> None:
    with pytest.raises(ConsentRefused, match="cannot read its own measurement"):
        own_measurement(CpuEvidence(tee="tdx", report=b""))


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({}, {"max_completion_tokens": 16}),
        ({"max_tokens": 4}, {"max_tokens": 4}),
        ({"max_tokens": 400}, {"max_tokens": 16}),
        ({"max_completion_tokens": 17, "max_tokens": 1}, {"max_completion_tokens": 16, "max_tokens": 1}),
        (
            {"max_completion_tokens": None, "max_tokens": 99},
            {"max_completion_tokens": None, "max_tokens": 16},
        ),
        ({"logprobs": False, "max_tokens": 1}, {"logprobs": False, "max_tokens": 1}),
    ],
)
def test_tokens_are_capped(asked: dict[str, Any], given: dict[str, Any]) -> None:
    assert govern(STRICT, CHAT, asked) == given


@pytest.mark.parametrize("value", [True, 0, 1, 5, "yes", [], 0.0])
@pytest.mark.parametrize("name", ["logprobs", "top_logprobs"])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_log_probabilities_are_refused_in_every_spelling(path: str, name: str, value: object) -> None:
    with pytest.raises(RuleBroken, match="log-probabilities") as caught:
        govern(STRICT, path, {name: value})
    assert caught.value.param == name


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_biases_which_measure_log_probabilities_go_with_them(path: str) -> None:
    with pytest.raises(RuleBroken, match="biases measure"):
        govern(STRICT, path, {"logit_bias": {"5": 1.5}})
    assert govern(STRICT, path, {"logit_bias": {}})["logit_bias"] == {}
    assert "logit_bias" in govern(replace(STRICT, logprobs=True), path, {"logit_bias": {"5": 1.5}})


def test_log_probabilities_pass_where_they_were_agreed_to() -> None:
    rules = OutputRules(max_tokens=1, logprobs=True)
    assert govern(rules, CHAT, {"logprobs": True, "top_logprobs": 3})["top_logprobs"] == 3


@pytest.mark.parametrize("value", ["8", 8.0, True])
def test_a_limit_that_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(RuleBroken, match="whole number"):
        govern(STRICT, CHAT, {"max_tokens": value})


def test_the_schema_is_forced() -> None:
    agreed = {"name": "consent", "schema": SCHEMA, "strict": True}
    forced = govern(SHAPED, CHAT, {})
    assert forced["response_format"] == {"type": "json_schema", "json_schema": agreed}
    assert govern(SHAPED, CHAT, forced)["response_format"] == forced["response_format"]


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        (CHAT, {"response_format": {"type": "text"}}),
        (CHAT, {"tools": []}),
        (CHAT, {"functions": [{"name": "f"}]}),
        ("/v1/completions", {}),
    ],
)
def test_nothing_passes_by_the_schema(path: str, request_: dict[str, Any]) -> None:
    with pytest.raises(RuleBroken, match="JSON Schema"):
        govern(SHAPED, path, request_)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses", "/", "/v1/chat/completions/"])
def test_what_the_rules_do_not_know_is_refused(path: str) -> None:
    with pytest.raises(RuleBroken, match="does not allow"):
        govern(STRICT, path, {})


def test_completions_are_capped_and_do_not_echo() -> None:
    assert govern(STRICT, "/v1/completions", {"prompt": "a"})["max_tokens"] == 16
    with pytest.raises(RuleBroken):
        govern(STRICT, "/v1/completions", {"prompt": "a", "echo": True})


class Around:
    """The layer with an application that keeps what reached it."""

    def __init__(self) -> None:
        self.reached: list[bytes] = []
        self.now = float(NOW)
        self.loaded = WORKLOAD
        self.headers: list[tuple[bytes, bytes]] = []
        self.layer = ConsentLayer(
            application=self._application,
            manifest=MANIFEST,
            workload=lambda: self.loaded.to_bytes(),
            clock=lambda: self.now,
        )

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        assert scope["method"] == "GET" or lengths == [str(len(body)).encode()]
        self.reached.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def call(self, body: bytes, path: str = CHAT, method: str = "POST") -> tuple[int, dict[str, Any]]:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [*self.headers, (b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await self.layer(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"] or b"{}")


async def test_the_application_reads_what_was_judged() -> None:
    around = Around()
    # Two readers could see two values in a repeated member: the application gets one.
    status, _ = await around.call(b'{"max_tokens": 1, "max_tokens": 500, "logprobs": null, "a": "\\ud83d"}')
    assert status == 200
    assert json.loads(around.reached[0])["max_tokens"] == 16
    assert around.reached[0].count(b"max_tokens") == 1


async def test_refusals_are_errors_in_openais_shape_and_reach_nobody() -> None:
    around = Around()
    status, body = await around.call(b'{"logprobs": true}')
    assert (status, body["error"]["code"], body["error"]["param"]) == (403, "consent", "logprobs")
    for raw in (b"", b"[]", b"{", b"[" * 100_000):
        assert (await around.call(raw))[0] == 403
    assert around.reached == []


async def test_models_can_be_listed_but_nothing_else_is_read() -> None:
    around = Around()
    assert (await around.call(b"", "/v1/models", "GET"))[0] == 200
    assert (await around.call(b"{}", "/v1/models", "POST"))[0] == 403
    assert (await around.call(b"", CHAT, "GET"))[0] == 403


async def test_it_ends_with_the_consent() -> None:
    around = Around()
    around.now = MANIFEST.expires
    status, body = await around.call(b"{}")
    assert (status, body["error"]["message"]) == (403, "the consent in force has expired")


async def test_documents_go_when_their_key_expires(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one cat")
    around = Around()
    found = replace(Documents.read(Folder(tmp_path)), not_after=NOW + 10)
    around.layer.documents["letters"] = found
    key = KEYS["north"]
    token = party_token("north", key).encode()
    around.headers = [(b"authorization", b"Bearer " + token)]
    path = "/v1/vector_stores/letters/search"
    status, page = await around.call(b'{"query": "cat"}', path)
    assert (status, page["data"][0]["filename"]) == (200, "a.txt")
    around.now = NOW + 10
    assert (await around.call(b'{"query": "cat"}', path))[0] == 403
    assert around.layer.documents == {}


async def test_something_else_loaded_later_stops_it() -> None:
    around = Around()
    assert (await around.call(b"{}"))[0] == 200
    around.loaded = replace(WORKLOAD, adapters=())
    status, body = await around.call(b"{}")
    assert status == 403
    assert "adapter sailor is in the consent and is not loaded" in body["error"]["message"]
    around.loaded = WORKLOAD
    assert (await around.call(b"{}"))[0] == 200
