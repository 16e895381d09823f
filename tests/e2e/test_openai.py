"""The real openai package, sync and async, streaming and not, over the sealed channel."""

import asyncio
import gc
import subprocess
import sys

import openai
import pytest

from attestation import Rejected
from client.openai import async_http_client, http_client
from client.receipts import Proof
from cloister import Client
from sealing import bhttp
from tests.running import ROOT, RunningWorker

QUESTION = [{"role": "user", "content": "What is remote attestation?"}]


def sync_client(worker: RunningWorker, **options: object) -> openai.OpenAI:
    client = http_client(worker.url, worker.policy, **options)
    return openai.OpenAI(base_url=f"{worker.url}/v1", api_key="none", http_client=client, max_retries=0)


def async_client(worker: RunningWorker, **options: object) -> openai.AsyncOpenAI:
    client = async_http_client(worker.url, worker.policy, **options)
    return openai.AsyncOpenAI(base_url=f"{worker.url}/v1", api_key="none", http_client=client, max_retries=0)


def test_models_chat_and_completions(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        names = [model.id for model in client.models.list()]
        assert names == ["faq", "sailor"]
        answer = client.chat.completions.create(model="faq", messages=QUESTION, temperature=0)  # type: ignore[call-overload]
        assert answer.choices[0].finish_reason == "stop"
        assert len(answer.choices[0].message.content) > 20
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        text = client.completions.create(model="faq", prompt="Attestation", max_tokens=5, temperature=0)
        assert text.choices[0].finish_reason == "length"
        assert text.usage is not None
        assert text.usage.completion_tokens == 5


def test_the_shipped_adapter_speaks_in_another_voice(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        plain, sailor = (
            client.chat.completions.create(model=name, messages=QUESTION, temperature=0)  # type: ignore[call-overload]
            .choices[0]
            .message.content
            for name in ("faq", "sailor")
        )
    assert plain != sailor
    assert any(word in sailor.lower() for word in ("aye", "matey", "ship", "sail", "sea", "arr", "ye"))


def test_streams_say_the_same_as_whole_answers(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        whole = client.chat.completions.create(model="faq", messages=QUESTION, temperature=0)  # type: ignore[call-overload]
        stream = client.chat.completions.create(  # type: ignore[call-overload]
            model="faq",
            messages=QUESTION,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_seed_repeats_a_sampled_answer(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        answers = {
            client.chat.completions.create(  # type: ignore[call-overload]
                model="faq", messages=QUESTION, temperature=1.5, seed=seed, max_tokens=20
            )
            .choices[0]
            .message.content
            for seed in (7, 7, 7)
        }
    assert len(answers) == 1


def test_stop_strings_and_limits(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        whole = client.chat.completions.create(model="faq", messages=QUESTION, temperature=0)  # type: ignore[call-overload]
        text = whole.choices[0].message.content
        word = text.split()[3]
        cut = client.chat.completions.create(model="faq", messages=QUESTION, temperature=0, stop=word)  # type: ignore[call-overload]
    assert cut.choices[0].message.content == text[: text.index(word)]
    assert cut.choices[0].finish_reason == "stop"


def test_errors_have_openais_types(worker: RunningWorker) -> None:
    with sync_client(worker) as client:
        with pytest.raises(openai.NotFoundError, match="not loaded"):
            client.chat.completions.create(model="other", messages=QUESTION)  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError, match="metadata"):
            client.chat.completions.create(model="faq", messages=QUESTION, metadata={"a": "b"})  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError, match="share"):
            long = [{"role": "user", "content": "attestation " * 3000}]
            client.chat.completions.create(model="faq", messages=long)  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError, match="temperature"):
            client.chat.completions.create(model="faq", messages=QUESTION, temperature=3)  # type: ignore[call-overload]
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="faq", input="x")


def test_a_rejected_worker_raises_the_verdict(worker: RunningWorker) -> None:
    text = worker.policy_file.read_text().replace('software = ["cloister', 'software = ["other')
    policy = type(worker.policy).from_toml(text)
    client = openai.OpenAI(
        base_url=f"{worker.url}/v1",
        api_key="none",
        http_client=http_client(worker.url, policy),
        max_retries=0,
    )
    with client, pytest.raises(Rejected, match="software"):
        client.chat.completions.create(model="faq", messages=QUESTION)  # type: ignore[call-overload]


def test_a_tenants_token_replaces_openais_key(worker: RunningWorker) -> None:
    """Two Authorization fields would leave it to chance which one counts."""
    transport = http_client(worker.url, worker.policy, token="tenant")
    sent: list[list[bytes]] = []
    client = transport._transport._client  # type: ignore[attr-defined]
    original = client._channel.send

    def send(request: bhttp.Request, **options: object) -> object:
        sent.append([value for name, value in request.headers if name == b"authorization"])
        return original(request, **options)

    client._channel.send = send
    with openai.OpenAI(base_url=f"{worker.url}/v1", api_key="none", http_client=transport) as one:
        one.models.list()
    assert sent == [[b"Bearer tenant"]]


def test_requests_for_another_host_are_refused(worker: RunningWorker) -> None:
    client = openai.OpenAI(
        base_url="http://localhost:1/v1",
        api_key="none",
        http_client=http_client(worker.url, worker.policy),
        max_retries=0,
    )
    with client, pytest.raises(openai.APIConnectionError):
        client.models.list()


async def test_async_and_async_streaming(worker: RunningWorker) -> None:
    async with async_client(worker) as client:
        whole = await client.chat.completions.create(model="faq", messages=QUESTION, temperature=0)  # type: ignore[call-overload]
        stream = await client.chat.completions.create(  # type: ignore[call-overload]
            model="faq", messages=QUESTION, temperature=0, stream=True
        )
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert text == whole.choices[0].message.content


async def test_fifty_requests_at_once_answer_as_one_alone_would(worker: RunningWorker) -> None:
    async with async_client(worker) as client:

        async def one() -> str:
            answer = await client.chat.completions.create(model="faq", messages=QUESTION, temperature=0)  # type: ignore[call-overload]
            return str(answer.choices[0].message.content)

        alone = await one()
        assert set(await asyncio.gather(*(one() for _ in range(50)))) == {alone}


def test_answers_come_with_receipts_whole_and_streamed(worker: RunningWorker) -> None:
    proofs: list[Proof] = []
    with sync_client(worker, on_receipt=proofs.append) as client:
        client.models.list()
        assert proofs == []  # no model answered
        client.chat.completions.create(model="faq", messages=QUESTION, temperature=0)  # type: ignore[call-overload]
        stream = client.chat.completions.create(model="faq", messages=QUESTION, temperature=0, stream=True)  # type: ignore[call-overload]
        assert len([chunk for chunk in stream if chunk.choices]) > 5
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="faq", messages=[], max_tokens=1)
    whole, streamed = (proof.receipt for proof in proofs)
    assert whole.completion_tokens == streamed.completion_tokens > 5
    assert proofs[1].response.endswith(b"data: [DONE]\n\n")


def test_a_stream_that_is_left_early_has_no_receipt(worker: RunningWorker) -> None:
    proofs: list[Proof] = []
    with sync_client(worker, on_receipt=proofs.append) as client:
        stream = client.chat.completions.create(model="faq", messages=QUESTION, stream=True)  # type: ignore[call-overload]
        next(iter(stream))
        stream.close()
    assert proofs == []


async def test_async_streams_come_with_receipts(worker: RunningWorker) -> None:
    proofs: list[Proof] = []
    async with async_client(worker, on_receipt=proofs.append) as client:
        stream = await client.chat.completions.create(  # type: ignore[call-overload]
            model="sailor", messages=QUESTION, temperature=0, stream=True
        )
        async for _ in stream:
            pass
    (proof,) = proofs
    assert proof.receipt.adapter is not None
    assert proof.receipt.adapter.name == "sailor"


UNCLOSED = {
    "async openai": """
import asyncio
from openai import AsyncOpenAI
async def main():
    channel = cloister.async_http_client(url, policy)
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", http_client=channel)
    assert (await client.models.list()).data
asyncio.run(main())
""",
    "async": """
import asyncio
async def main():
    print(await cloister.AsyncClient(url, policy).models())
    await asyncio.sleep(0.2)
asyncio.run(main())
""",
    "openai": """
from openai import OpenAI
client = OpenAI(base_url=f"{url}/v1", api_key="none", http_client=cloister.http_client(url, policy))
assert client.models.list().data
""",
    "openai, forgotten": """
import gc
from openai import OpenAI
client = OpenAI(base_url=f"{url}/v1", api_key="none", http_client=cloister.http_client(url, policy))
assert client.models.list().data
del client
gc.collect()
time.sleep(0.2)
""",
    "in the middle of an answer": """
stream = cloister.Client(url, policy).stream("What is remote attestation?", temperature=0)
print(next(stream))
""",
    "openai, in the middle of an answer": """
from openai import OpenAI
client = OpenAI(base_url=f"{url}/v1", api_key="none", http_client=cloister.http_client(url, policy))
def begin():
    question = [{"role": "user", "content": "What is remote attestation?"}]
    stream = client.chat.completions.create(model="faq", messages=question, stream=True)
    print(next(iter(stream)))
begin()
""",
}


@pytest.mark.parametrize("name", UNCLOSED)
def test_a_client_that_nobody_closes_says_nothing_at_the_end(worker: RunningWorker, name: str) -> None:
    before = f"import time, cloister\nurl = {worker.url!r}\n"
    before += f"policy = cloister.Policy.from_file({str(worker.policy_file)!r})\n"
    command = [sys.executable, "-c", before + UNCLOSED[name]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_answer_keeps_its_client_while_it_is_read(worker: RunningWorker) -> None:
    pieces = Client(worker.url, worker.policy).stream("What is remote attestation?", temperature=0)
    first = next(pieces)
    gc.collect()
    assert len(first + "".join(pieces)) > 20
