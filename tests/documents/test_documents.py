"""Documents: passages as they stand in the file, BM25, limits."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.documents.bm25 import Index
from enclave.documents.passages import MAX_PASSAGE, passages
from enclave.documents.searching import BadSearch, search
from enclave.documents.shelf import Documents, Folder
from enclave.files import FilesError
from enclave.model_files import model_root

TEXTS = ["the cat sat on the mat", "the dog chased the cat", "a bird sang", "cat cat cat cat"]


def folder(directory: Path, **files: str) -> Folder:
    for name, text in files.items():
        (directory / f"{name}.txt").write_text(text)
    return Folder(directory)


@given(st.text(alphabet="ab \n", max_size=400), st.integers(1, 3))
def test_every_passage_stands_at_its_lines_word_for_word(text: str, times: int) -> None:
    whole = text * times
    lines = whole.splitlines()
    found = list(passages("f", whole))
    for passage in found:
        assert passage.text == "\n".join(lines[passage.first - 1 : passage.last])
    covered = [number for p in found for number in range(p.first, p.last + 1)]
    assert covered == [number for number, line in enumerate(lines, 1) if line.strip()]


def test_long_paragraphs_are_cut_at_lines() -> None:
    found = list(passages("f", "\n".join(["x" * 500] * 5)))
    assert [(p.first, p.last) for p in found] == [(1, 2), (3, 4), (5, 5)]
    assert all(len(p.text) <= MAX_PASSAGE + 1 for p in found)


def test_rare_words_count_more_and_order_is_stable() -> None:
    index = Index(TEXTS)
    assert [number for number, _ in index.search("dog", 5)] == [1]
    assert index.search("DOG cat", 5)[0][0] == 1
    assert index.search("cat", 1)[0][0] == 3
    assert index.search("zebra", 5) == []
    assert index.search("", 5) == []
    assert Index([]).search("cat", 5) == []


def test_scores_are_okapis() -> None:
    """By hand: 3 texts of 2 words, one holds the word once: ln(1 + 2.5 / 1.5) * 2.2 / 2.2."""
    ((number, score),) = Index(["a b", "c d", "e f"]).search("c", 5)
    assert number == 1
    assert score == pytest.approx(0.9808292530117263)


def test_documents_are_hashed_as_they_are_read(tmp_path: Path) -> None:
    first = Documents.read(folder(tmp_path, a="one\n\ntwo", b="three"))
    assert first.root == Documents.read(Folder(tmp_path)).root
    (tmp_path / "b.txt").write_text("thre3")
    assert first.root != Documents.read(Folder(tmp_path)).root
    # The same hash as of a model's files.
    (tmp_path / "b.txt").rename(tmp_path / "config.json")
    (tmp_path / "a.txt").unlink()
    assert Documents.read(Folder(tmp_path)).root == model_root(tmp_path)


def test_files_below_and_links(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.txt").write_text("deep down")
    (tmp_path / "link.txt").symlink_to("/etc/hostname")
    assert list(Folder(tmp_path).sizes) == ["in/x.txt"]
    assert Documents.read(Folder(tmp_path)).search("deep", 1)[0].passage.path == "in/x.txt"


def test_what_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="paragraphs"):
        Documents.read(folder(tmp_path, a="  \n"))
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(FilesError, match=r"b\.txt is not UTF-8"):
        Documents.read(Folder(tmp_path))
    with pytest.raises(FilesError):
        Folder(tmp_path / "nowhere")


def test_a_page_of_results_has_openais_shape(tmp_path: Path) -> None:
    documents = Documents.read(folder(tmp_path, a="one cat\n\ntwo dogs"))
    page = search(documents, {"query": "dogs", "max_num_results": 1})
    assert page["object"] == "vector_store.search_results.page"
    (item,) = page["data"]
    assert item["filename"] == "a.txt"
    assert item["attributes"] == {"first_line": 3, "last_line": 3}
    assert item["content"] == [{"type": "text", "text": "two dogs"}]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "query"),
        ({"query": 1}, "query"),
        ({"query": ""}, "query"),
        ({"query": "a", "max_num_results": 51}, "max_num_results"),
        ({"query": "a", "max_num_results": True}, "max_num_results"),
        ({"query": "a", "filters": {}}, "filters"),
    ],
)
def test_searches_that_do_not_fit_name_the_field(
    tmp_path: Path, request_: dict[str, object], param: str
) -> None:
    documents = Documents.read(folder(tmp_path, a="one cat"))
    with pytest.raises(BadSearch) as caught:
        search(documents, request_)
    assert caught.value.param == param


def test_passages_stay_out_of_repr(tmp_path: Path) -> None:
    documents = Documents.read(folder(tmp_path, a="secret words"))
    assert "secret" not in repr(documents)
    assert "secret" not in repr(documents.search("secret", 1))
