"""Is a downloaded file what the server holds? The strongest evidence that the server gives decides."""

import base64
import hashlib
import logging
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from percept.datasets.download.bucket import Bucket, Remote
from percept.files import gzip_damage

log = logging.getLogger(__name__)

BLOCK = 1 << 20
SINGLE = re.compile(r'"?([0-9a-f]{32})"?')  # the MD5 of an object uploaded whole
IN_PARTS = re.compile(r'"?([0-9a-f]{32})-(\d+)"?')  # the MD5 of the parts' MD5s, and how many parts


class _Crc32:
    """CRC-32 with hashlib's interface."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, block: bytes) -> None:
        self.value = zlib.crc32(block, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(4, "big")


DECLARED = {"ChecksumSHA256": hashlib.sha256, "ChecksumSHA1": hashlib.sha1, "ChecksumCRC32": _Crc32}


def damage(path: Path, remote: Remote, bucket: Bucket) -> str | None:
    """What is wrong with a finished file, in words, or None when nothing is.

    The first of these that the server allows decides: its declared SHA-256 or SHA-1; an ETag that is the MD5
    of the object; an ETag of an upload in parts, recomputed from the sizes of the parts; its declared CRC-32;
    for `.gz` files the CRC-32 and length that gzip itself stores. Otherwise the size alone vouches for the
    file, and the log says so.
    """
    size = path.stat().st_size
    if size != remote.size:
        return f"{size} bytes instead of {remote.size}"
    for check in (_declared(remote, "SHA"), _etag(remote, bucket), _declared(remote, "CRC32"), _gzip(remote)):
        if check is not None:
            return check(path)
    log.warning("%s: the server gives no checksum that can be recomputed; only its size was compared", path)
    return None


def _declared(remote: Remote, kind: str) -> Callable[[Path], str | None] | None:
    for name, digest in DECLARED.items():
        expected = remote.checksums.get(name)
        if expected and kind in name and "-" not in expected:  # "-": a checksum of checksums of parts
            return partial(_compare, digest=digest, expected=base64.b64decode(expected).hex(), name=name)
    return None


def _etag(remote: Remote, bucket: Bucket) -> Callable[[Path], str | None] | None:
    if remote.encrypted:
        return None
    if single := SINGLE.fullmatch(remote.etag):
        return partial(_compare, digest=hashlib.md5, expected=single[1], name="MD5")
    if in_parts := IN_PARTS.fullmatch(remote.etag):
        sizes = _equal_parts(remote.size, bucket.part_size(remote, 1), int(in_parts[2]))
        if sizes:
            return partial(_compare_parts, expected=in_parts[1], sizes=sizes, remote=remote, bucket=bucket)
    return None


def _equal_parts(size: int, part_size: int | None, count: int) -> list[int] | None:
    """Sizes of `count` parts, equal but for the last; None if they cannot be as the server tells."""
    if part_size is None or part_size * (count - 1) >= size:
        return None
    return [part_size] * (count - 1) + [size - part_size * (count - 1)]


def _gzip(remote: Remote) -> Callable[[Path], str | None] | None:
    return gzip_damage if remote.key.endswith(".gz") else None


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _compare(path: Path, digest: Callable, expected: str, name: str) -> str | None:
    running = digest()
    for block in _blocks(path):
        running.update(block)
    found = running.digest().hex()
    return None if found == expected else f"{name.removeprefix('Checksum')} {found} instead of {expected}"


def _compare_parts(path: Path, expected: str, sizes: list[int], remote: Remote, bucket: Bucket) -> str | None:
    found = _digest_of_parts(path, sizes)
    if found == expected:
        return None
    # Before the bytes are blamed: parts may be of unequal size, which takes one question per part to know.
    with ThreadPoolExecutor(bucket.cfg.connections) as pool:
        true = list(pool.map(partial(bucket.part_size, remote), range(1, len(sizes) + 1)))
    if true != sizes and _digest_of_parts(path, [size or 0 for size in true]) == expected:
        return None
    return f"MD5 of parts {found} instead of {expected}"


def _digest_of_parts(path: Path, sizes: list[int]) -> str:
    digests = b""
    with path.open("rb") as file:
        for left in sizes:
            digest = hashlib.md5()
            while block := file.read(min(BLOCK, left)):
                digest.update(block)
                left -= len(block)
            digests += digest.digest()
    return hashlib.md5(digests).hexdigest()
