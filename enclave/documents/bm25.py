"""Okapi BM25: which texts hold the words of a question, rare words counting more (Robertson, Zaragoza 2009).

It compares words and understands nothing.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

K1 = 1.2
B = 0.75
MAX_QUERY_WORDS = 256
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(text.casefold())


class Index:
    """Texts by word. Scores are sums over the question's words; 0 means that none occurs."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in texts]
        self._lengths = [count.total() for count in counts]
        self._mean = (sum(self._lengths) / len(counts)) if counts else 0.0
        self._postings: dict[str, list[tuple[int, int]]] = {}
        for number, count in enumerate(counts):
            for word, times in count.items():
                self._postings.setdefault(word, []).append((number, times))

    def search(self, query: str, limit: int) -> list[tuple[int, float]]:
        """Numbers and scores of the best texts, best first, at most `limit`; none that shares no word."""
        scores: dict[int, float] = defaultdict(float)
        for word in list(dict.fromkeys(words(query)))[:MAX_QUERY_WORDS]:
            postings = self._postings.get(word, [])
            weight = math.log(1 + (len(self._lengths) - len(postings) + 0.5) / (len(postings) + 0.5))
            for number, times in postings:
                scores[number] += weight * self._saturated(number, times)
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def _saturated(self, number: int, times: int) -> float:
        long = 1 - B + B * self._lengths[number] / self._mean
        return times * (K1 + 1) / (times + K1 * long)
