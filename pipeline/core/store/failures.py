"""What HDF5 and h5py raise, as the errors a reader can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import StoreDamaged, system_error

AGAIN = "delete the file and run the workflow again"
# What a damaged structure makes of a name that is gone, a type that is none, text that is not UTF-8, a length without end.
_STRUCTURE = (KeyError, OSError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, OverflowError, EOFError)


@contextmanager
def reading(path: Path | str, fix: str = AGAIN) -> Iterator[None]:
    """Raise StoreDamaged for whatever a damaged structure makes h5py raise; the system's own refusals stay what they are."""
    try:
        yield
    except _STRUCTURE as error:
        if isinstance(error, OSError) and (error.errno or re.search(r"errno = [1-9]", str(error))):
            raise system_error(error) or error from error  # a limit, the disk, a permission: the file may be whole
        empty = Path(path).exists() and Path(path).stat().st_size == 0
        said = "it is empty" if empty else (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreDamaged(f"not a whole HDF5 file ({said})", where=path, fix=fix) from error
