"""Typed errors: every failure a user can meet has a code, says what failed, where, and what to do next."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path


def printable(path: str | Path) -> str:
    """A path as text that can be printed and stored: bytes of a file name that are no UTF-8 are written as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class PrvrError(Exception):
    """A failure with a stable `code` (a heading of docs/troubleshooting.md), its place, and its mend.

    Args: `what` failed, `where` it failed (a file, a key, a video id), `fix`: what the reader should do.
    """

    code = "PRVR"

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str = "") -> None:
        self.what, self.where, self.fix = what, str(where) if where is not None else "", fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.what}"]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  to do: {self.fix}")
        return "\n".join(lines)


class ConfigError(PrvrError):
    """A key, type or value of the configuration is wrong."""

    code = "CONFIG"


class DatasetError(PrvrError):
    """An annotation file, a caption list or a folder of videos is unusable; lists every instance."""

    code = "DATASET"


class StoreError(PrvrError):
    """An HDF5 file is unusable."""

    code = "STORE"


class StoreMissing(StoreError):
    """The file does not exist."""

    code = "STORE_MISSING"


class StoreDamaged(StoreError):
    """The file is not what was written: truncated, changed, or something else altogether."""

    code = "STORE_DAMAGED"


class StoreForeign(StoreError):
    """The file is HDF5 but was not written by prvr, or points at other files."""

    code = "STORE_FOREIGN"


class StoreSchema(StoreError):
    """The file was written by another schema version, stage or recipe than the one asked for."""

    code = "STORE_SCHEMA"


class StoreValues(StoreError):
    """Values to be stored are infinite in the type they are stored in."""

    code = "STORE_VALUES"


class WeightsError(PrvrError):
    """Pretrained weights are missing, or are not what the configuration names."""

    code = "WEIGHTS"


class EncoderError(PrvrError):
    """An encoder cannot do what the configuration asks of it (image size, preprocessing, token states)."""

    code = "ENCODER"


class DeviceError(PrvrError):
    """The GPU that was asked for is not there, is taken, or is too small for one row."""

    code = "DEVICE"


class VideoError(PrvrError):
    """A video cannot be used; `code` is a quarantine code (EMPTY, NOT_VIDEO, TIMEOUT, ...)."""

    def __init__(self, code: str, what: str, *, where: str | Path | None = None, fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.code = code


class DecoderError(PrvrError):
    """No decoding process can be started."""

    code = "DECODER"


class GridError(PrvrError):
    """Features of different time grids were asked to be joined."""

    code = "GRID"


class TrainingError(PrvrError):
    """Training cannot go on (non-finite loss, nothing to train on)."""

    code = "TRAINING"


class QuarantineError(PrvrError):
    """More videos are unusable than the configuration allows."""

    code = "QUARANTINE"


class BundleError(PrvrError):
    """A published feature bundle or checkpoint is unusable; lists every problem found."""

    code = "BUNDLE"


class LockedError(PrvrError):
    """The folder is held by a run, or by jobs of one that was killed."""

    code = "LOCKED"


class LibraryError(PrvrError):
    """A library that was asked for, and that prvr does without otherwise, is not installed."""

    code = "LIBRARY"


class PlanError(PrvrError):
    """Snakemake's dry run failed, or says something that cannot be read."""

    code = "PLAN"


class DiskError(PrvrError):
    """The disk is full or may not be written to."""

    code = "DISK"


class LimitError(PrvrError):
    """The system grants no more memory, open files or processes."""

    code = "LIMIT"


_DISK = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "ask for a larger quota, or make room",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`)",
    errno.EROFS: "write elsewhere (`results:` in the configuration), or make the file system writable",
    errno.EACCES: "mend the permissions, or write elsewhere (`results:` in the configuration)",
    errno.EIO: "have the disk looked at: it could not read or write",
}
_NO_MEMORY = ("can't allocate memory", "failed to map segment", "cannot allocate memory")
_LIMITS = {
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "raise the machine's limit on open files (`fs.file-max`)",
    errno.ENOMEM: "give it more memory (`ulimit -v`, the job's limit), or run fewer jobs at once",
    errno.EAGAIN: "raise the limit on processes (`ulimit -u`)",
}


def system_error(error: Exception) -> DiskError | LimitError | None:
    """A refusal of the system as a typed error, None when it is another one.

    HDF5, torch and the loader of shared libraries say what it was in their text only.
    """
    said = re.search(r"errno = (\d+)|shared object file: Error (\d+)", str(error))
    number = int(said[1] or said[2]) if said else getattr(error, "errno", None)
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        number = errno.ENOMEM
    kind, fixes = (DiskError, _DISK) if number in _DISK else (LimitError, _LIMITS)
    if number not in fixes:
        return None
    return kind(
        os.strerror(number), where=getattr(error, "filename", None), fix=f"{fixes[number]}, then run again: nothing finished is lost"
    )
