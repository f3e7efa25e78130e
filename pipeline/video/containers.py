"""What a file's outermost structure says, read without a video library: which container it is, and whether all of it is there.

A demuxer hands out what it finds and stops; only the sizes written in the container tell a short video from a truncated one.
Durations cannot: they are wrong in many whole files (they count a dropped sound track, or were never updated).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MP4_FIRST = {b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"free", b"skip", b"wide", b"pnot", b"uuid"}
_MP4_BOXES = _MP4_FIRST | {b"sidx", b"ssix", b"emsg", b"prft", b"mfra", b"meta", b"udta", b"pdin", b"PICT"}
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675


@dataclass(frozen=True)
class Structure:
    """A container's name as sniffed ("" when unknown), what is missing of it ("" when nothing is), and its edit list.

    `indexed`: an mp4's sample table is there. `edits`: the largest number of edits in one track; more than one is a real cut.
    """

    container: str
    missing: str = ""
    indexed: bool = True
    edits: int = 0


def structure(path: str | os.PathLike[str]) -> Structure:
    """Read the structure of a file. OSError when it cannot be read."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(4096)
        if head[4:8] in _MP4_FIRST:
            return _mp4(file, size)
        if head[:4] == b"\x1aE\xdf\xa3":
            return Structure("matroska", _matroska(file, size))
        if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"AVI ":
            return Structure("avi", _avi(file, size))
        if head[:16] == _ASF_HEADER:
            return Structure("asf", _asf(head, size))
        if head[:4] == b"OggS":
            return Structure("ogg", _ogg(file, size))
        for offset, packet in ((0, 188), (4, 192), (0, 204)):
            starts = head[offset : offset + 5 * packet : packet]
            if len(starts) > 1 and set(starts) == {0x47}:
                return Structure("mpegts", _mpegts(file, size, packet, offset))
        if head[:4] == b"\x00\x00\x01\xba":
            return Structure("mpeg")
        if head[:3] == b"FLV":
            return Structure("flv")
    return Structure("")


def _mpegts(file: BinaryIO, size: int, packet: int, offset: int) -> str:
    rest = size % packet
    file.seek(size - rest + offset)
    cut = rest > offset and file.read(1) == b"G"  # else: bytes that follow the stream
    return f"the last packet holds {rest} of {packet} bytes" if cut else ""


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of the content, end) of the boxes of an ISO file; the last one may end past `end`."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        size, body = int.from_bytes(header[:4], "big"), start + 8
        if size == 1:
            size, body = int.from_bytes(header[8:16], "big"), start + 16
        elif size == 0:
            size = end - start
        if size < body - start:
            return
        yield header[4:8], body, start + size
        start += size


def _mp4(file: BinaryIO, size: int) -> Structure:
    missing, indexed, edits = "", False, 0
    for name, body, end in _boxes(file, 0, size):
        if name not in _MP4_BOXES:
            break  # bytes that follow the file
        if end > size:
            missing = missing or f"box {name.decode('latin1')!r} lacks {end - size} of its {end - body} bytes"
        elif name == b"moov":
            indexed = True
            for track, track_body, track_end in _boxes(file, body, end):
                if track == b"trak":
                    edits = max(edits, _edits(file, track_body, track_end))
    if not indexed and not missing:
        missing = "the index ('moov') was never written"
    return Structure("mp4", missing, indexed, edits)


def _edits(file: BinaryIO, body: int, end: int) -> int:
    """Edits of one track that show media (an empty edit only delays it)."""
    for name, edts, edts_end in _boxes(file, body, end):
        if name != b"edts":
            continue
        for kind, elst, _ in _boxes(file, edts, edts_end):
            if kind == b"elst":
                file.seek(elst)
                version, count = file.read(4)[0], int.from_bytes(file.read(4), "big")
                width = 8 if version == 1 else 4
                entries = file.read(min(count, 4096) * (2 * width + 4))
                step = 2 * width + 4
                times = [entries[i + width : i + 2 * width] for i in range(0, len(entries) - step + 1, step)]
                return sum(time != b"\xff" * width for time in times)
    return 0


def _vint(file: BinaryIO, *, keep_marker: bool) -> tuple[int, bool]:
    """(value, whether it is the reserved "unknown") of an EBML number; (-1, False) at the end of the file."""
    first = file.read(1)
    if not first or not first[0]:
        return -1, False
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return -1, False
    value = int.from_bytes(first + rest, "big")
    mask = (1 << (7 * length)) - 1
    return (value if keep_marker else value & mask), value & mask == mask


def _matroska(file: BinaryIO, size: int) -> str:
    start, inside = 0, False
    while start < size:
        file.seek(start)
        element, _ = _vint(file, keep_marker=True)
        length, unknown = _vint(file, keep_marker=False)
        if not inside and element not in (_EBML, _SEGMENT):
            return ""  # bytes that follow the file
        if element < 0 or length < 0:
            return "the last element has no complete header"
        body = file.tell()
        if element in (_SEGMENT, _CLUSTER) and unknown:
            start, inside = body, True  # a live recording: look at its children instead
            continue
        if body + length > size:
            return f"element {element:X} lacks {body + length - size} of its {length} bytes"
        start = body + length
    return ""


def _avi(file: BinaryIO, size: int) -> str:
    start = 0
    while start + 12 <= size:
        file.seek(start)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or length == 0:  # bytes after the end, or a recording whose size was never filled in
            return ""
        if start + 8 + length > size:
            return f"the RIFF list lacks {start + 8 + length - size} of its {length} bytes"
        start += 8 + length + length % 2
    return ""


def _asf(head: bytes, size: int) -> str:
    place = head.find(_ASF_FILE_PROPERTIES)
    if place < 0 or place + 92 > len(head):
        return ""
    declared = int.from_bytes(head[place + 40 : place + 48], "little")
    broadcast = head[place + 88] & 1  # a live stream does not know its size
    return f"{size} of {declared} bytes" if declared > size and not broadcast else ""


def _ogg(file: BinaryIO, size: int) -> str:
    tail = min(size, 1 << 17)  # two pages at least: a page holds 65,307 bytes at most
    file.seek(size - tail)
    data = file.read(tail)
    place = data.rfind(b"OggS")
    if place < 0 or place + 27 > len(data):
        return "the last page has no complete header"
    segments = data[place + 26]
    length = 27 + segments + sum(data[place + 27 : place + 27 + segments])
    if place + length > len(data):
        return f"the last page lacks {place + length - len(data)} bytes"
    return "" if data[place + 5] & 4 else "the stream's last page is not there"
