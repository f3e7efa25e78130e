"""The one HDF5 container of every stage: ragged arrays, tables and tensors with provenance, whole or not there at all.

`create` writes a file, `open_store` reads it; `open_foreign` and `create_foreign` are for other people's files. Every array carries a
checksum that is compared when it is read (checksums.py), and a full disk ends in an error (sink.py). Only these modules import h5py.
"""

from pipeline.core.provenance import SCHEMA, recipe_hash
from pipeline.core.store.failures import AGAIN
from pipeline.core.store.foreign import Foreign, create_foreign, open_foreign
from pipeline.core.store.ragged import Ragged
from pipeline.core.store.reader import Reader, content_digest, open_store
from pipeline.core.store.writer import Writer, create

__all__ = [
    "AGAIN",
    "SCHEMA",
    "Foreign",
    "Ragged",
    "Reader",
    "Writer",
    "content_digest",
    "create",
    "create_foreign",
    "open_foreign",
    "open_store",
    "recipe_hash",
]
