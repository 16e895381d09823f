"""As much DER (X.690) as certificates, CRLs and Intel's SGX extension need."""

from ..errors import MalformedEvidence

INTEGER, BIT_STRING, OCTET_STRING, OID, ENUMERATED, BOOLEAN, SEQUENCE = (
    0x02,
    0x03,
    0x04,
    0x06,
    0x0A,
    0x01,
    0x30,
)


def element(raw: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Tag, content start and content end of the element at `at`; it must end by `end`."""
    if end - at < 2:
        raise MalformedEvidence("DER element without tag or length")
    size, start = raw[at + 1], at + 2
    if size >= 0x80:
        count = size & 0x7F
        start += count
        size = int.from_bytes(raw[at + 2 : start], "big")
        if not 1 <= count <= 3 or size < 0x80 or size >> 8 * (count - 1) == 0:
            raise MalformedEvidence("DER length is not in its shortest form")
    if size > end - start:
        raise MalformedEvidence("DER element runs past its end")
    return raw[at], start, start + size


def sequence(raw: bytes, at: int, end: int) -> tuple[int, int]:
    """Content start and end of the SEQUENCE at `at`."""
    tag, start, stop = element(raw, at, end)
    if tag != SEQUENCE:
        raise MalformedEvidence(f"DER tag {tag:#x} where a SEQUENCE belongs")
    return start, stop


def unsigned(content: bytes) -> int:
    """The value of a non-negative INTEGER's content, in its shortest form."""
    if not content or content[0] >= 0x80 or (len(content) > 1 and content[0] == 0 and content[1] < 0x80):
        raise MalformedEvidence("DER integer is negative or not in its shortest form")
    return int.from_bytes(content, "big")
