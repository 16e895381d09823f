"""The commands and their options. What they need is imported when they run: starting stays fast."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from .azure import app as azure
from .broker import app as broker
from .bus import app as bus
from .collateral import app as collateral
from .consents import app as consent_commands
from .demos import app as demo_commands
from .ears import app as ear
from .gpus import app as gpu
from .owners import app as owners
from .policies import app as policy
from .receipts import app as receipt_commands
from .tees import one_word_for_each_tee

app = typer.Typer(
    name="cloister",
    help="Confidential inference: attest a worker, CPU and GPU together, and only then seal to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(azure)
app.add_typer(broker)
app.add_typer(bus)
app.add_typer(collateral)
app.add_typer(consent_commands)
app.add_typer(demo_commands)
app.add_typer(ear)
app.add_typer(gpu)
app.add_typer(policy)
app.add_typer(receipt_commands)
app.add_typer(owners)

PolicyFile = Annotated[
    Path, typer.Option("--policy", "-p", help="Policy file (TOML): what the worker must prove.")
]
Url = Annotated[str, typer.Option("--url", "-u", help="The worker's address.", envvar="CLOISTER_URL")]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="CLOISTER_TOKEN", help="A tenant's bearer token; sent only inside the seal."
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Model or adapter; the base model if left out.")
]
ModelDir = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Directory of a Hugging Face causal model, or of a sealed one, or where that lies: http(s)://, "
        "azblob:https://. The shipped FAQ model if left out.",
    ),
]
Brokers = Annotated[
    list[str] | None,
    typer.Option("--broker", help="Key broker of what is sealed, https://HOST:PORT; repeat for more."),
]
BrokerCa = Annotated[
    Path | None, typer.Option("--broker-ca", help="PEM file that the brokers' certificates chain to.")
]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", help="NAME=PLACE of a LoRA adapter; repeat for more."),
]
Encoders = Annotated[
    list[str] | None,
    typer.Option("--encoder", help="NAME=DIRECTORY of a sentence encoder, for embeddings; repeat for more."),
]
EngineSettings = Annotated[
    list[str] | None,
    typer.Option("--engine", help="vllm, or NAME=VALUE of an engine option, such as max_rows=32; measured."),
]
Issuers = Annotated[
    list[Path] | None,
    typer.Option("--issuer", help="PEM file of an Ed25519 key whose tenant tokens are taken."),
]
Tee = Annotated[
    str | None,
    typer.Option(
        metavar="[sev-snp|tdx]",
        callback=one_word_for_each_tee,
        help="Serve in this real CPU TEE (docs/hardware.md); without it everything is simulated.",
    ),
]
Gpu = Annotated[
    Literal["nvidia"] | None,
    typer.Option(help="With --tee: compute on this machine's confidential GPUs, if they are admitted."),
]
GpuPolicy = Annotated[
    Path | None, typer.Option(help="What they must pass first: a policy with an [nvidia_gpu] section.")
]
GpuCollateral = Annotated[
    list[Path] | None,
    typer.Option(help="For that: a collateral bundle, or a folder of NVIDIA's files; repeat for more."),
]
ConsentFile = Annotated[
    Path | None,
    typer.Option(help="A consent that every party signed; the worker starts only what it names."),
]
Documents = Annotated[
    list[str] | None,
    typer.Option(help="NAME=DIRECTORY of text files that the consent names; repeat for more."),
]
AdmitOwner = Annotated[
    list[Path] | None,
    typer.Option(help="PEM file of an owner who may load adapters while serving; repeat for more."),
]
GpuToll = Annotated[
    bool,
    typer.Option("--gpu-toll", help="Make crossings to the device as slow as on confidential hardware."),
]
InsecureGpu = Annotated[
    bool,
    typer.Option(
        "--insecure-gpu",
        help="Compute on this machine's GPU although it is not in confidential mode; the workload says so.",
    ),
]
DEFAULT_URL = "http://127.0.0.1:8420"


@app.command()
def verify(
    source: Annotated[
        list[str],
        typer.Argument(
            help="A worker's URL; or files or a folder that hold one piece of evidence: a bundle, a report "
            "with its certificates, a quote, a document of another provider, a token."
        ),
    ],
    policy: PolicyFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
    nonce: Annotated[str | None, typer.Option(help="For files: the nonce you chose, in hexadecimal.")] = None,
    nonce_made_at: Annotated[
        str | None, typer.Option(help="For files: when that nonce was made, such as 2026-01-01T12:00:00Z.")
    ] = None,
    received_at: Annotated[
        str | None, typer.Option(help="For files: when the evidence arrived; judged at that time.")
    ] = None,
    report_data: Annotated[
        str | None, typer.Option(help="For a report or quote: what it must carry, 64 bytes in hexadecimal.")
    ] = None,
    user_data: Annotated[
        str | None, typer.Option(help="For Azure and Nitro: the user data it must carry, in hexadecimal.")
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option(help="The key that you talk to, in hexadecimal; the evidence must bind it."),
    ] = None,
    collateral: Annotated[
        list[Path] | None,
        typer.Option(help="A collateral bundle, or a folder of the vendors' files; repeat for more."),
    ] = None,
    roots: Annotated[
        Path | None, typer.Option(help="Directory with trust anchors to use instead of the pinned ones.")
    ] = None,
    ear_key: Annotated[
        Path | None,
        typer.Option(help="PEM file of a P-256, P-384 or Ed25519 key: sign the verdict as an EAR."),
    ] = None,
    ear_out: Annotated[
        Path | None, typer.Option(help="Write the EAR here; else to stdout, and the table to stderr.")
    ] = None,
    ear_issuer: Annotated[str, typer.Option(help="What the EAR names as its issuer.")] = "cloister",
) -> None:
    """Judge evidence under a policy, check by check.

    Exits 0 accepted, 3 accepted but simulated, 10 rejected, 20 not evaluable, 30 malformed, 2 usage.
    """
    from . import ears, verifying

    options = verifying.FileOptions(
        nonce=nonce,
        nonce_made_at=nonce_made_at,
        received_at=received_at,
        report_data=report_data,
        user_data=user_data,
        public_key=public_key,
        collateral=tuple(collateral or ()),
    )
    signing = ears.Signing.of(ear_key, ear_out, ear_issuer)
    _leave(verifying.run(source, policy, as_json=as_json, options=options, roots=roots, signing=signing))


@app.command()
def inspect(
    source: Annotated[list[str], typer.Argument(help="Files or folders that hold evidence or collateral.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the fields as JSON.")] = False,
) -> None:
    """Explain evidence field by field, recognised by its content, without judging it."""
    from . import inspecting

    _leave(inspecting.run(source, as_json=as_json))


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    policy: PolicyFile,
    url: Url = DEFAULT_URL,
    model: Model = None,
    token: Token = None,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="0 always picks the likeliest token.")
    ] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens to answer with.")] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(help="Keep a signed receipt in this file; what opens it lies beside it, for you alone."),
    ] = None,
) -> None:
    """Attest a worker, seal one question to it, print the answer as it comes."""
    from . import asking

    _leave(asking.ask(question, policy, url, model, token, temperature, max_tokens, receipt))


@app.command()
def chat(policy: PolicyFile, url: Url = DEFAULT_URL, model: Model = None, token: Token = None) -> None:
    """Talk with a model in an attested worker; an empty line or Ctrl-D ends."""
    from . import asking

    _leave(asking.chat(policy, url, model, token))


@app.command()
def search(
    documents: Annotated[str, typer.Argument(help="What the consent calls the documents.")],
    words: Annotated[str, typer.Argument(help="What to look for; passages that share words are quoted.")],
    policy: PolicyFile,
    party: Annotated[str, typer.Option("--as", help="The party that asks, as the consent names it.")],
    key: Annotated[Path, typer.Option(help="PEM file of the key that it signed the consent with.")],
    url: Url = DEFAULT_URL,
    limit: Annotated[int, typer.Option(min=1, max=50, help="Most passages to quote.")] = 5,
) -> None:
    """Quote passages of documents that a worker holds under a consent, with file and lines."""
    from . import searching

    wanted = searching.Wanted(documents=documents, words=words, party=party, key=key, limit=limit)
    _leave(searching.run(wanted, policy, url))


@app.command()
def serve(
    model: ModelDir = None,
    name: Annotated[
        str | None, typer.Option(help="What requests call the model; the directory's name if left out.")
    ] = None,
    adapter: Adapters = None,
    encoder: Encoders = None,
    engine: EngineSettings = None,
    issuer: Issuers = None,
    consent: ConsentFile = None,
    documents: Documents = None,
    broker: Brokers = None,
    broker_ca: BrokerCa = None,
    broker_plaintext: Annotated[
        bool, typer.Option("--broker-plaintext", help="Reach brokers on loopback without TLS.")
    ] = False,
    threshold: Annotated[
        int, typer.Option(min=1, max=16, help="How many brokers must agree, where each holds a share.")
    ] = 1,
    admit_owner: AdmitOwner = None,
    uploads: Annotated[
        Path | None, typer.Option(help="Directory for what admitted owners upload: ciphertext.")
    ] = None,
    tee: Tee = None,
    gpu: Gpu = None,
    gpu_policy: GpuPolicy = None,
    gpu_collateral: GpuCollateral = None,
    insecure_gpu: InsecureGpu = False,
    gpu_toll: GpuToll = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = 8420,
    write_policy: Annotated[
        Path | None, typer.Option(help="Write the policy that pins this worker to this file.")
    ] = None,
) -> None:
    """Start a worker: measured by the simulated security processor, or with --tee on real hardware."""
    from . import serving

    settings = serving.Settings(
        *(model, name, adapter or [], engine or [], issuer or []),
        *(consent, encoder or [], tuple(documents or ())),
        brokers=broker or [],
        broker_ca=broker_ca,
        broker_plaintext=broker_plaintext,
        threshold=threshold,
        admitted=admit_owner or [],
        uploads=uploads,
        insecure_gpu=insecure_gpu,
        gpu_toll=gpu_toll,
        tee=tee,
        gpu=gpu is not None,
        gpu_policy=gpu_policy,
        gpu_collateral=gpu_collateral or [],
    )
    _leave(serving.serve(settings, host, port, write_policy))


@app.command()
def measure(
    model: ModelDir = None,
    name: Annotated[str | None, typer.Option(help="What requests call the model.")] = None,
    adapter: Adapters = None,
    encoder: Encoders = None,
    engine: EngineSettings = None,
    issuer: Issuers = None,
    insecure_gpu: InsecureGpu = False,
    write_policy: Annotated[
        Path | None, typer.Option(help="Write the policy that pins this measurement.")
    ] = None,
    entries: Annotated[bool, typer.Option("--entries", help="List everything that is measured.")] = False,
) -> None:
    """Print the measurement that a worker with these options will have, without starting it."""
    from . import serving

    settings = serving.Settings(
        *(model, name, adapter or [], engine or [], issuer or []),
        encoders=encoder or [],
        insecure_gpu=insecure_gpu,
    )
    _leave(serving.measure(settings, write_policy, entries))


def _version(wanted: bool) -> None:
    if wanted:
        from cloister import __version__

        typer.echo(f"cloister {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See the commands below; each has its own --help."""


def _leave(code: int) -> None:
    raise typer.Exit(code)


def main() -> None:
    """Entry point: errors with a name are printed with their next step, never as a traceback."""
    from .failures import NAMED, explain, explain_file

    try:
        app()
    except NAMED as error:
        sys.exit(explain(error))
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(explain_file(error))
    except KeyboardInterrupt:
        sys.exit(130)
