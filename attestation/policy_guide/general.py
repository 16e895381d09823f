"""The top of a policy file and its [workload] section."""

from .words import (
    Explainer,
    Guide,
    Key,
    Writing,
    accepts,
    ceiling,
    demand,
    extra,
    fill,
    flag,
    left_open,
    listed,
    only,
    weakened,
)


def _unnamed(noun: str) -> Explainer:
    """Roots without a name: that they are allowed is said, and that their names are not pinned."""
    return lambda roots: (
        left_open(f"{noun}: {listed(roots)}, under whatever name")
        if roots
        else accepts(f"{noun}: none by root")
    )


TOP = Guide(
    title="The top of the file",
    keys=(
        Key(
            name="version",
            type="integer",
            default="required",
            meaning="The format of the file: 1.",
            value="1",
            writing=Writing.ALWAYS,
        ),
        Key(
            name="roots",
            type="array of strings",
            default="required",
            meaning="Whose pinned trust anchors count: amd, intel, nvidia, azure, aws, google;"
            " or simulator alone.",
            weakens="Each further vendor can sign for a worker."
            " The simulator's keys are public: it proves nothing.",
            value=fill("the vendors"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="max_verdict_age",
            type="integer, seconds, 1 to 86400",
            default="required",
            meaning="How long an accepted verdict is relied on before the worker must attest again.",
            weakens="A longer time lets a worker that was revoked or replaced go on for longer.",
            value="3600",
            writing=Writing.ALWAYS,
        ),
        Key(
            name="max_nonce_age",
            type="integer, seconds, 1 to 600",
            default="60",
            meaning="The longest time from making the nonce to having the evidence.",
            weakens="A longer time gives a relay more room.",
            value="60",
        ),
        Key(
            name="require_session",
            type="boolean",
            default="false",
            meaning="Accept only a worker that gives a one-time key, and seal to such keys alone: what was"
            " recorded cannot be read by whoever takes the worker's keys a minute later.",
            value="true",
        ),
        Key(
            name="allow_classical",
            type="boolean",
            default="false",
            meaning="Take the X25519 suite too, without ML-KEM.",
            weakens="Traffic recorded today can be read by whoever has a quantum computer later.",
            value="true",
        ),
        Key(
            name="allow_remote_simulation",
            type="boolean",
            default="false",
            meaning="Take a simulated worker at an address other than loopback.",
            weakens="Prompts leave the machine for a worker that protects nothing.",
            value="true",
        ),
    ),
    fields={
        "roots": lambda roots: (
            accepts(f"trust anchors: {', '.join(sorted(roots.names))}")
            if not roots.simulated
            else weakened("the SIMULATOR's trust anchors: nothing that passes runs on confidential hardware")
        ),
        "max_verdict_age": ceiling("a verdict is relied on"),
        "max_nonce_age": ceiling("from making the nonce to having the evidence"),
        "require_session": demand(
            "every request is sealed to a one-time key", "one-time keys are used where there are any"
        ),
        "allow_classical": flag(
            "channel keys without ML-KEM are taken: recorded traffic is open to a later quantum computer",
            "channel keys need ML-KEM-768 with X25519",
        ),
        "allow_remote_simulation": flag(
            "a simulated worker is taken at any address", "a simulated worker is taken on loopback alone"
        ),
        "digest": lambda digest: accepts(f"this file is known as SHA-256 {digest.hex()}"),
    },
)

WORKLOAD = Guide(
    title="What may be loaded in the worker; a bundle needs this section, a bare report does without",
    keys=(
        Key(
            name="software",
            type="array of strings",
            default="required",
            meaning="The releases of the worker's software that are trusted.",
            value=fill("an array of releases, as `cloister measure` prints them"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="models",
            type='array of "name=root" or "root", 32-byte hex',
            default="required, unless allow_any_model",
            meaning="SHA-256 roots of the models that may be loaded, each under its name or, without one,"
            " under any.",
            weakens="A root without a name lets the operator give one allowed model the name of another.",
            value=fill("an array of name=root; `cloister measure` prints them"),
            writing=Writing.ALWAYS,
        ),
        Key(
            name="adapters",
            type='array of "name=root" or "root", 32-byte hex',
            default="none",
            meaning="SHA-256 roots of the adapters that may be loaded, as for models.",
            value='["<name>=<root>"]',
        ),
        Key(
            name="owners",
            type="array of 32-byte hex",
            default="none",
            meaning="Key hashes of owners whose word is taken for the roots of what they sealed.",
            weakens="An owner can state a root that its files do not have.",
            value='["<owner>"]',
        ),
        Key(
            name="policies",
            type="array of strings",
            default="none",
            meaning="Digests of policies and token issuers that may be in force in the worker.",
            weakens="Each issuer named here can admit tenants.",
            value='["<digest>"]',
        ),
        Key(
            name="consents",
            type="array of strings",
            default="none",
            meaning="Digests of consents, one of which must be in force; none may be if none is named.",
            value='["<digest>"]',
        ),
        Key(
            name="clocks",
            type="array out of tee, host",
            default='["tee"]',
            meaning="Whose clock the worker may judge time by.",
            weakens="With host the operator can stretch every expiry that the worker enforces.",
            value='["host"]',
        ),
        Key(
            name="allow_any_model",
            type="boolean",
            default="false",
            meaning="Take whatever model is loaded.",
            weakens="The worker may run a model of the operator's choice.",
            value="true",
        ),
        Key(
            name="allow_any_adapter",
            type="boolean",
            default="false",
            meaning="Take whatever adapters are loaded.",
            weakens="The operator may bend the model with an adapter of its own.",
            value="true",
        ),
    ),
    fields={
        "software": only("software"),
        "models": _unnamed("models"),
        "adapters": _unnamed("adapters"),
        "named_models": only("models by name", empty="models: none by name"),
        "named_adapters": only("adapters by name", empty="adapters: none by name"),
        "owners": only(
            "owners whose stated roots are taken", empty="owners whose stated roots are taken: none"
        ),
        "policies": only("policies and token issuers in force"),
        "consents": only("consents in force, one of them", empty="consents in force: none"),
        "clocks": lambda clocks: extra("time by the host's clock", "time by a clock inside the TEE")(
            clocks - {"tee"}
        ),
        "allow_any_model": flag("any model may be loaded", "no model beyond those listed"),
        "allow_any_adapter": flag("any adapter may be loaded", "no adapter beyond those listed"),
    },
)
