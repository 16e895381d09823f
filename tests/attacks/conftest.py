"""The plaintext control."""

from collections.abc import Iterator

import pytest

from tests.plain import plain_app
from tests.running import FAQ


@pytest.fixture(scope="session")
def plain_url() -> Iterator[str]:
    """The same app and model without the gateway."""
    with plain_app(FAQ) as url:
        yield url
