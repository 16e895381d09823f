"""One release over the KBS protocol: request, challenge, attestation, resource. A fresh key each time."""

import re
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from sealing import kbs
from sealing.errors import DecryptionFailed, SealingError

from .attester import Attester
from .errors import BrokerLied, BrokerRefused, BrokerUnreachable
from .transport import Answer, Transport

PREFIX: Final = "/kbs/v0"
COOKIE: Final = "kbs-session-id"
MIN_NONCE: Final = 16
MAX_DETAIL: Final = 200
_JSON = {"content-type": "application/json"}
_COOKIE = re.compile(rf"(?:^|, ){COOKIE}=([A-Za-z0-9._~-]{{1,128}})(?:[;,]|$)")
_HASH = "sha384"
_REMEMBERED = 1024
T = TypeVar("T")


class Nonces:
    """The nonces of late: one that comes again is a challenge replayed."""

    def __init__(self) -> None:
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()

    def first_time(self, nonce: str) -> bool:
        """Whether `nonce` is new; it is not the next time."""
        with self._lock:
            if nonce in self._seen:
                return False
            self._seen.append(nonce)
            return True


_nonces = Nonces()


def fetch(transport: Transport, resource: kbs.ResourceId, attester: Attester) -> bytes:
    """The plaintext of `resource`. Blocks.

    1. ask for a challenge, and judge it;  2. a fresh key, and a fresh report bound to it;
    3. attest;  4. ask for the resource;  5. open it with the key, which is then gone.
    Raises BrokerUnreachable, BrokerRefused, BrokerLied, EvidenceUnavailable.
    """
    request = kbs.Request(tee=attester.tee, extra_params={"supported-hash-algorithms": [_HASH]})
    answer = _answered(transport, "POST", "/auth", _JSON, request.to_bytes(), "the challenge")
    challenge = _challenge(transport, answer)  # 1
    cookie = {"cookie": f"{COOKIE}={_cookie(transport, answer)}"}
    key = kbs.TeeKeyPair.generate()  # 2
    body = attester.attest(challenge, key).to_bytes()
    answer = _answered(transport, "POST", "/attest", _JSON | cookie, body, "the evidence")  # 3
    _parsed(transport, kbs.TokenResponse.from_bytes, answer)
    answer = _answered(transport, "GET", f"/resource/{resource}", cookie, b"", str(resource))  # 4
    try:
        return kbs.open_response(answer.body, key)  # 5
    except DecryptionFailed:
        text = "the answer is not sealed to this release's key: replayed, or meant for somebody else"
        raise BrokerLied(text, broker=transport.name) from None
    except SealingError as error:
        raise BrokerLied(str(error), broker=transport.name) from None


def _challenge(transport: Transport, answer: Answer) -> kbs.Challenge:
    challenge = _parsed(transport, kbs.Challenge.from_bytes, answer)
    if len(challenge.nonce) < MIN_NONCE or not challenge.nonce.isascii():
        raise BrokerLied(f"its nonce has fewer than {MIN_NONCE} characters", broker=transport.name)
    if not _nonces.first_time(challenge.nonce):
        raise BrokerLied("its nonce has been used before", broker=transport.name)
    extra = challenge.extra_params
    selected = extra.get("selected-hash-algorithm", _HASH) if isinstance(extra, dict) else _HASH
    if not isinstance(selected, str) or selected.lower() != _HASH:
        raise BrokerLied("it selects a hash that was not offered", broker=transport.name)
    return challenge


def _cookie(transport: Transport, answer: Answer) -> str:
    match = _COOKIE.search(answer.headers.get("set-cookie", ""))
    if match is None:
        raise BrokerLied(f"it sets no cookie {COOKIE}", broker=transport.name)
    return match[1]


def _answered(
    transport: Transport, method: str, path: str, headers: dict[str, str], body: bytes, what: str
) -> Answer:
    answer = transport.send(method, PREFIX + path, headers, body)
    if answer.status == 200:
        return answer
    if answer.status in (401, 403, 404):
        why = {401: "it does not accept", 403: "its owner's policy does not allow", 404: "it does not have"}
        text = f"{why[answer.status]} {what}{_detail(answer)}; the owner's audit log says why"
        raise BrokerRefused(text, broker=transport.name, status=answer.status)
    raise BrokerUnreachable(f"it answered {answer.status} to {what}{_detail(answer)}", broker=transport.name)


def _detail(answer: Answer) -> str:
    try:
        whole = kbs.ErrorInformation.from_bytes(answer.body).detail
    except SealingError:
        return ""
    detail = whole if len(whole) <= MAX_DETAIL else whole[: MAX_DETAIL - 3] + "..."
    printable = "".join(c if c.isprintable() else "?" for c in detail)
    return f" ({printable})" if printable else ""


def _parsed(transport: Transport, parse: Callable[[bytes], T], answer: Answer) -> T:
    try:
        return parse(answer.body)
    except SealingError as error:
        raise BrokerLied(str(error), broker=transport.name) from None
