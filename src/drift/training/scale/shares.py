"""Reading torch.distributed.checkpoint without running code from its files.

Its tensors are read with `weights_only=True`, but its index (`.metadata`) is a pickle, of which torch reads any.
"""

import pickle
from pathlib import Path
from typing import Any

from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from drift.errors import DataError

_PLAIN = {
    "torch": {"Size", "float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.metadata": {
        "Metadata", "MetadataIndex", "StorageMeta", "ChunkStorageMetadata", "TensorProperties",
        "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "pathlib": {"PosixPath"},
}  # fmt: skip
"""What an index of tensors consists of, by module."""


def read_shares(tensors: dict[str, Any], folder: Path) -> None:
    """Fill this process's shares from the folder, in place; all processes must call it.

    Raises DataError if the index holds anything else than tensors.
    """
    dcp.load(tensors, storage_reader=_Reader(folder))  # pyright: ignore[reportPrivateImportUsage]


class _Reader(FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / ".metadata").open("rb") as file:
            index = _Index(file).load()
        index.storage_meta = index.storage_meta or StorageMeta()
        index.storage_meta.load_id = self.load_id
        return index


class _Index(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if global_name not in _PLAIN.get(module_name, ()):
            raise DataError(
                f"a checkpoint's index names {module_name}.{global_name}, which is no part of one: the file was "
                "changed. Delete the stage's work folder and run the command again."
            )
        return super().find_class(module_name, global_name)
