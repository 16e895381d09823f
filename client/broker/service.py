"""The broker without HTTP: each request of the protocol to its answer. Blocks; safe for several threads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attestation import Collateral, MalformedEvidence, Verdict
from sealing.errors import SealingError
from sealing.kbs import MARK, PROTOCOL_VERSION, Attestation, Challenge, Request, ResourceId, TokenResponse
from sealing.kbs import seal_response as seal

from . import appraisal
from .administration import Administration
from .metrics import Metrics
from .replies import Problem, Reply, cookie, denied, unauthorized, unavailable
from .sessions import LIFETIME, NoSession, Session, Sessions, TooManySessions
from .store import Artifact, Asking, Store
from .tokens import Admins, Issuer, TokenRefused

CHALLENGE = {MARK: {"version": 1}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: method, the path below /kbs/v0, cookie, bearer token, body."""

    method: str
    path: tuple[str, ...]
    session: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)
    body: bytes = field(default=b"", repr=False)


class Service:
    """The protocol over a store. `clock`: Unix seconds; `ticks`: a steady clock.

    `collateral`: what evidence is judged by besides what workers staple. `mark` off makes it look like any
    other broker, for tests of what workers then send.
    """

    def __init__(
        self,
        store: Store,
        admins: Admins,
        *,
        clock: Callable[[], float],
        ticks: Callable[[], float],
        collateral: Collateral | None = None,
        mark: bool = True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._collateral = collateral or Collateral()
        self._extra = CHALLENGE if mark else ""
        self._sessions = Sessions(ticks)
        self._issuer = Issuer.from_der(store.secret("signing-key", Issuer.generate))
        self._administration = Administration(store, admins, clock)
        self.metrics = Metrics(self._sessions)

    def check(self) -> None:
        """StoreError if nothing could be released now."""
        self._store.check()

    def handle(self, call: Call) -> Reply:
        """The answer to one request, an error among them. Raises StoreError if the database fails."""
        step = call.path[0] if call.path and call.path[0] in ("auth", "attest", "resource") else "other"
        try:
            reply = self._answer(call)
        except Problem as problem:
            reply = problem.reply()
        self.metrics.requests.labels(step, str(reply.status)).inc()
        return reply

    def _answer(self, call: Call) -> Reply:
        match call.method, call.path:
            case "POST", ("auth",):
                return self._auth(call)
            case "POST", ("attest",):
                return self._attest(call)
            case "GET", ("resource", repository, kind, tag):
                return self._resource(call, self._named(repository, kind, tag))
        return self._administration.answer(call.method, call.path, call.bearer, call.body)

    def _auth(self, call: Call) -> Reply:
        """Request to Challenge: another version of the protocol is refused, as the server refuses it."""
        now = self._clock()
        try:
            request = Request.from_bytes(call.body)
        except SealingError as error:
            self._store.log(now, "auth", outcome="malformed", reason=str(error))
            raise unauthorized("AttestationError", "RCAR handshake Auth failed: not a request") from None
        if request.version != PROTOCOL_VERSION:
            self._store.log(now, "auth", outcome="version", version=request.version)
            detail = f"RCAR handshake Auth failed: this broker speaks version {PROTOCOL_VERSION}"
            raise unauthorized("AttestationError", detail)
        try:
            session = self._sessions.begin(request.tee)
        except TooManySessions:
            raise unavailable("too many challenges are open") from None
        self._store.log(now, "auth", outcome="challenged", tee=request.tee, session=session.digest)
        challenge = Challenge(nonce=session.nonce, extra_params=self._extra)
        return Reply(200, challenge.to_bytes(), headers=cookie(session, now, LIFETIME))

    def _attest(self, call: Call) -> Reply:
        """Attestation to token, if any owner's policy accepts it. The challenge is used up either way."""
        now = self._clock()
        session = self._answered(call.session, now)
        try:
            attestation = Attestation.from_bytes(call.body)
            verdicts = self._verdicts(session, attestation, now)
        except (SealingError, MalformedEvidence) as error:
            self._store.log(now, "attest", outcome="malformed", session=session.digest, reason=str(error))
            raise unauthorized("AttestationError", "RCAR handshake Attest failed: malformed") from None
        good = {n: v for n, (_, v) in verdicts.items() if isinstance(v, Verdict) and v.accepted}
        outcome = "accepted" if good else "rejected"
        detail = appraisal.summary({name: found for name, (_, found) in verdicts.items()})
        self._store.log(now, "attest", outcome=outcome, session=session.digest, policies=detail)
        if not good:
            raise unauthorized("AttestationError", "RCAR handshake Attest failed: evidence not accepted")
        judged = {digest: found for digest, found in verdicts.values() if isinstance(found, Verdict)}
        self._sessions.attested(session, attestation, judged)
        name, verdict = next(iter(good.items()))
        token = self._issuer.issue(attestation, session.id, verdict, name, now=now, until=now + LIFETIME)
        return Reply(200, TokenResponse(token=token).to_bytes(), headers=cookie(session, now, LIFETIME))

    def _answered(self, session_id: str | None, now: float) -> Session:
        try:
            return self._sessions.answer(session_id)
        except NoSession:
            self._store.log(now, "attest", outcome="no-session")
            raise unauthorized(
                "AttestationError", "RCAR handshake Attest failed: no open challenge"
            ) from None

    def _verdicts(
        self, session: Session, attestation: Attestation, now: float
    ) -> Mapping[str, tuple[bytes, Verdict | MalformedEvidence]]:
        """By the policy's id: its digest, and what it makes of the evidence."""
        found: dict[str, tuple[bytes, Verdict | MalformedEvidence]] = {}
        for name, policy in self._store.policies().items():
            try:
                verdict = appraisal.appraise(session, attestation, policy, self._collateral, now)
                found[name] = policy.digest, verdict
            except MalformedEvidence as error:
                found[name] = policy.digest, error
        return found

    def _resource(self, call: Call, resource: ResourceId) -> Reply:
        """The sealed key, if its owner's policy and limits allow it; counted and logged before it leaves."""
        now = self._clock()
        try:
            with self._sessions.using(self._session_id(call, now)) as session:
                return self._release(session, resource, now)
        except (NoSession, TokenRefused):
            self._store.log(now, "resource", outcome="no-session", resource=str(resource))
            raise unauthorized("TokenNotFound", "Attestation Token not found") from None

    def _session_id(self, call: Call, now: float) -> str | None:
        return call.session or (self._issuer.session(call.bearer, now) if call.bearer else None)

    def _release(self, session: Session, resource: ResourceId, now: float) -> Reply:
        attestation = session.attestation
        with self._store.transaction():  # no policy or limit changes between judging and counting
            artifact = self._store.find(resource)
            if artifact is not None and attestation is not None:
                asking = self._asking(session, attestation, artifact, now)
                decision = self._store.release(resource, artifact.version, asking, now=now)
        if artifact is None or attestation is None:
            self._store.log(
                now, "denied", refusals=["unknown"], resource=str(resource), session=session.digest
            )
            raise Problem(404, "PluginInternalError", "no such resource")
        self.metrics.decisions.labels("release" if decision.secret is not None else "denied").inc()
        if decision.secret is None:
            raise denied()
        self._sessions.spend(session)
        return Reply(200, seal(decision.secret, attestation.runtime_data.tee_pubkey))

    def _asking(self, session: Session, attestation: Attestation, artifact: Artifact, now: float) -> Asking:
        if artifact.limits is None:
            return appraisal.nobody(session, "no limits are set")
        policy = self._store.policy(artifact.limits.policy)
        verdict = session.verdicts.get(policy.digest)
        try:
            if verdict is None or not appraisal.holds(
                verdict, now
            ):  # the policy is newer than the attestation
                verdict = appraisal.appraise(session, attestation, policy, self._collateral, now)
            return appraisal.asking(session, verdict)
        except MalformedEvidence as error:
            return appraisal.nobody(session, f"malformed: {error}")

    def _named(self, *parts: str) -> ResourceId:
        try:
            return ResourceId(*parts)
        except SealingError:
            self._store.log(self._clock(), "resource", outcome="malformed")
            raise Problem(404, "InvalidRequestPath", "not the name of a resource") from None
