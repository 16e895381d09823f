"""Text from tokens as they come: no broken characters, the same whole, stop strings over any border."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.text import StopStrings, TextModel
from tests.engine import tokenizers_made


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextModel]:
    return {
        "byte level": TextModel(tokenizers_made.save_qwen(tmp_path_factory.mktemp("bytes"))),
        "byte fallback": TextModel(tokenizers_made.save_llama2(tmp_path_factory.mktemp("fallback"))),
    }


@pytest.mark.parametrize("name", ["byte level", "byte fallback"])
@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.one_of(st.sampled_from("abc e\n🙂你é�👩‍👩‍👧"), st.characters(codec="utf-8")), max_size=40)
)
def test_pieces_make_the_whole_and_none_is_broken(models: dict[str, TextModel], name: str, text: str) -> None:
    tokenizer = models[name]._tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    whole = tokenizer.decode(ids)
    detokenizer = models[name].detokenizer()
    pieces = [detokenizer.push(token) for token in ids] + [detokenizer.flush()]
    assert "".join(pieces) == whole
    if "\ufffd" not in whole:
        assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(0, 380), max_size=40))
def test_any_tokens_at_all_give_their_text_in_the_end(models: dict[str, TextModel], ids: list[int]) -> None:
    detokenizer = models["byte level"].detokenizer()
    pieces = [detokenizer.push(token) for token in ids] + [detokenizer.flush()]
    assert all(len(piece) < 100 for piece in pieces)
    assert "".join(pieces).replace("\ufffd", "") == models["byte level"]._tokenizer.decode(ids).replace(
        "\ufffd", ""
    )


def test_an_emoji_appears_when_its_last_byte_arrives(models: dict[str, TextModel]) -> None:
    ids = models["byte level"]._tokenizer.encode("\U0001f9ff", add_special_tokens=False).ids
    assert len(ids) > 1
    detokenizer = models["byte level"].detokenizer()
    assert [detokenizer.push(token) for token in ids] == [""] * (len(ids) - 1) + ["\U0001f9ff"]


def test_an_unfinished_character_shows_as_replaced_only_at_the_end(models: dict[str, TextModel]) -> None:
    ids = models["byte level"]._tokenizer.encode("a\U0001f9ff", add_special_tokens=False).ids[:-1]
    detokenizer = models["byte level"].detokenizer()
    assert "".join(detokenizer.push(token) for token in ids) == "a"
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""


def test_special_tokens_give_no_text(models: dict[str, TextModel]) -> None:
    model = models["byte level"]
    ids = [*model.encode("a"), model._tokenizer.token_to_id("<|im_end|>"), *model.encode("b")]
    detokenizer = model.detokenizer()
    assert [detokenizer.push(token) for token in ids] == ["a", "", "b"]


@given(
    pieces=st.lists(st.text("ab\n", max_size=4), max_size=12),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
)
def test_an_answer_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    matcher = StopStrings(stops)
    shown = "".join(matcher.push(piece) for piece in pieces)
    whole = "".join(pieces)
    found = [at for stop in stops if (at := whole.find(stop)) >= 0]
    assert matcher.stopped == bool(found)
    if not found:
        assert shown + matcher.flush() == whole
        return
    # A stop string that is complete counts at once, even if a longer one might have begun earlier.
    assert whole.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert matcher.push("a") == matcher.flush() == ""


def test_a_stop_string_is_found_across_token_borders() -> None:
    matcher = StopStrings(["\nUser:", "END"])
    assert [matcher.push(text) for text in ("Hi", " E", "N", "O.\nU", "ser", ": x")] == [
        "Hi",
        " ",
        "",
        "ENO.",
        "",
        "",
    ]
    assert matcher.stopped


@pytest.mark.parametrize("stops", [[""], ["a"] * 17, ["a" * 1025]])
def test_stop_strings_are_bounded(stops: list[str]) -> None:
    with pytest.raises(ValueError):
        StopStrings(stops)
