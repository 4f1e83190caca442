"""The same store seen from behind: how a test reads and writes it without our programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Key:
    """A [store] section, and (except for memory) the other way to its bytes."""

    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    bucket: Any = None

    @property
    def lasting(self) -> bool:
        return self.backend != "memory"

    def behind(self, path: str) -> bytes:
        """What the store itself says an object holds."""
        if self.backend == "s3":
            return self.bucket.get(path)
        assert self.folder is not None, "nobody else can look into the memory backend"
        return (self.folder / path).read_bytes()

    def put_behind(self, path: str, data: bytes) -> None:
        """As another client would."""
        if self.backend == "s3":
            self.bucket.put(path, data)
            return
        assert self.folder is not None
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".new")
        temporary.write_bytes(data)
        temporary.rename(target)

    def delete_behind(self, path: str) -> None:
        if self.backend == "s3":
            self.bucket.delete(path)
        else:
            (self.folder / path).unlink()

    def exists_behind(self, path: str) -> bool:
        if self.backend == "s3":
            return path in self.bucket.keys(path)
        return (self.folder / path).exists()


def make_key(backend: str, folder: Path, bucket: Any = None) -> Key:
    if backend == "s3":
        return Key("s3", bucket.store(), bucket=bucket)
    if backend == "local":
        store = folder / "store"
        store.mkdir()
        return Key("local", {"backend": "local", "base_path": store}, folder=store)
    return Key("memory", {"backend": "memory"})
