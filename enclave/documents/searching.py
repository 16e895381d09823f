"""Search of documents in the shape of OpenAI's vector stores: POST /v1/vector_stores/{name}/search.

Passages come back word for word with file and lines. The score is BM25's.
"""

import re
from typing import Any

from .shelf import Documents, Hit

PATH = re.compile(r"/v1/vector_stores/([^/]{1,192})/search")
MAX_RESULTS = 50
DEFAULT_RESULTS = 10
MAX_QUERY = 4096


class BadSearch(ValueError):
    """A search that does not fit; `param` names the field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def search(documents: Documents, request: dict[str, Any]) -> dict[str, Any]:
    """The page of results for {"query", "max_num_results"?}. Raises BadSearch."""
    for name in sorted(request.keys() - {"query", "max_num_results"}):
        raise BadSearch(name, f"{name[:64]} is not supported by this worker; leave it out")
    query, limit = request.get("query"), request.get("max_num_results", DEFAULT_RESULTS)
    if not isinstance(query, str) or not 0 < len(query) <= MAX_QUERY:
        raise BadSearch("query", f"query is not a text of 1 to {MAX_QUERY} characters")
    if type(limit) is not int or not 1 <= limit <= MAX_RESULTS:
        raise BadSearch("max_num_results", f"max_num_results is not a whole number from 1 to {MAX_RESULTS}")
    return {
        "object": "vector_store.search_results.page",
        "search_query": [query],
        "data": [_result(hit) for hit in documents.search(query, limit)],
        "has_more": False,
        "next_page": None,
    }


def _result(hit: Hit) -> dict[str, Any]:
    passage = hit.passage
    return {
        "file_id": passage.path,
        "filename": passage.path,
        "score": round(hit.score, 4),
        "attributes": {"first_line": passage.first, "last_line": passage.last},
        "content": [{"type": "text", "text": passage.text}],
    }
