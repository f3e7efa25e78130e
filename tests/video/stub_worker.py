"""A decoding process in which files misbehave as their names say; run by the tests of the pool in place of the real one."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pipeline.video import worker

decode = worker.decode


def misbehave(parts: Any, streams: Any, sink: Any) -> Any:
    path = Path(parts[0].source.path)
    if "hang" in path.name and not (path.name.startswith("decord") and parts[0].choice.decoder == "pyav"):
        ctypes.PyDLL(None).sleep(1000)  # with the interpreter locked, as decord does
    if "crash" in path.name and not (path.name.startswith("decord") and parts[0].choice.decoder == "pyav"):
        os.abort()
    if "greedy" in path.name:
        bytearray(1 << 34)
    if "bad_alloc" in path.name:
        sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
        sys.stderr.flush()
        os.abort()
    if "shot" in path.name:
        mark = path.with_suffix(".mark")
        if "always" in path.name or not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if "strange" in path.name:
        raise LookupError("what a library may raise")
    if "full" in path.name:
        raise worker.WriteError("frames cannot be written") from OSError(errno.ENOSPC, "")
    print("a library's chatter on stdout", flush=True)
    return decode(parts, streams, sink)


worker.decode = misbehave

if __name__ == "__main__":
    worker.main(int(sys.argv[1]), int(sys.argv[2]))
