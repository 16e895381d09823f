"""Embeddings by a worker with an encoder: the openai package and the SDK over the sealed channel."""

import math
from collections.abc import Iterator

import openai
import pytest

from client.blocking import Client
from tests.e2e.encoders_made import WIDTH, save_encoder
from tests.e2e.test_openai import sync_client
from tests.running import RunningWorker

TEXTS = ["What is remote attestation?", "a prompt", "x"]


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    directory = save_encoder(tmp_path_factory.mktemp("encoder"))
    options = ("--encoder", f"mini={directory}")
    running = RunningWorker(tmp_path_factory.mktemp("embedding"), options).start()
    yield running
    running.stop()


def test_vectors_are_unit_and_do_not_depend_on_their_company(embedding: RunningWorker) -> None:
    with sync_client(embedding) as client:
        assert [model.id for model in client.models.list()] == ["faq", "sailor", "mini"]
        together = client.embeddings.create(model="mini", input=TEXTS)
        alone = client.embeddings.create(model="mini", input=TEXTS[0], encoding_format="float")
        assert [item.index for item in together.data] == [0, 1, 2]
        for item in together.data:
            assert len(item.embedding) == WIDTH
            assert math.hypot(*item.embedding) == pytest.approx(1, abs=1e-5)
        assert together.data[0].embedding == pytest.approx(alone.data[0].embedding, abs=1e-5)
        assert together.usage.total_tokens > alone.usage.total_tokens
        same = client.embeddings.create(model="mini", input=TEXTS[0], dimensions=WIDTH)
        assert same.data[0].embedding == pytest.approx(alone.data[0].embedding, abs=1e-5)


def test_what_an_encoder_cannot_do_is_refused(embedding: RunningWorker) -> None:
    with sync_client(embedding) as client:
        with pytest.raises(openai.BadRequestError, match="dimensions"):
            client.embeddings.create(model="mini", input="x", dimensions=8)
        with pytest.raises(openai.BadRequestError, match="shorten"):
            client.embeddings.create(model="mini", input="attestation " * 500)
        with pytest.raises(openai.NotFoundError, match="mini"):
            client.embeddings.create(model="faq", input="x")
        with pytest.raises(openai.NotFoundError, match="faq"):
            client.completions.create(model="mini", prompt="x")


def test_the_sdk_embeds_with_the_first_encoder(embedding: RunningWorker) -> None:
    with Client(embedding.url, embedding.policy) as client:
        one, two, _ = client.embed(TEXTS)
        assert client.embed(TEXTS[1], model="mini") == [pytest.approx(two, abs=1e-5)]
    assert len(one) == WIDTH
    assert one != two
