"""The bucket that all read, filled with what the chosen cases need."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from servers import MinIO

from .model import Failed

MTIME = 1_600_000_000      # of the tree: whole seconds, long ago
PIECE = 1 << 20


class Seed:
    small_size = 16 * 1024
    leaf_size = 1024
    per_folder = 100

    def __init__(self, minio: MinIO, folder: Path):
        self.minio, self.folder = minio, folder
        self.bucket = "bench"
        self.s3 = minio.client()
        self.s3.create_bucket(Bucket=self.bucket)
        self.sums: dict[str, str] = {}          # SHA-256 by key
        self.sizes: dict[str, int] = {}
        self.small: list[str] = []
        self.many: list[str] = []
        self.tree: list[str] = []               # below tree/
        self.tree_entries = 0                   # files and directories, tree/ and tree/.git with them

    def url(self, method: str, key: str, endpoint: str = "", **more: str) -> str:
        """Signed beforehand: what a client without a file system asks."""
        name = {"GET": "get_object", "PUT": "put_object", "COPY": "copy_object", "DELETE": "delete_object"}[method]
        client = self.minio.client(endpoint_url=endpoint) if endpoint else self.s3
        return client.generate_presigned_url(name, {"Bucket": self.bucket, "Key": key, **more}, 86_400)

    def list_urls(self) -> list[str]:
        """The LIST calls that show `many/`, a page each."""
        starts = [""] + [f"many/{self.many[i - 1]}" for i in range(1000, len(self.many), 1000)]
        return [self.s3.generate_presigned_url("list_objects_v2", {
            "Bucket": self.bucket, "Prefix": "many/", "Delimiter": "/", "StartAfter": start,
            "EncodingType": "url"}, 86_400) for start in starts]

    # What there is to read.
    def noise(self, key: str, size: int) -> None:
        """An object that does not compress, and the same file on the local disk."""
        from boto3.s3.transfer import TransferConfig
        path, digest = self.folder / f"disk-{key.replace('/', '-')}", hashlib.sha256()
        with open(path, "wb") as file:
            for start in range(0, size, PIECE):
                piece = os.urandom(min(PIECE, size - start))
                digest.update(piece)
                file.write(piece)
        config = TransferConfig(multipart_threshold=1 << 23, multipart_chunksize=1 << 24, max_concurrency=4)
        self.s3.upload_file(str(path), self.bucket, key, Config=config)
        self.sums[key], self.sizes[key] = digest.hexdigest(), size

    def fill_small(self, count: int) -> None:
        self.small = [f"s{number:05}" for number in range(count)]
        self.clone("small", self.small, os.urandom(self.small_size))

    def fill_many(self, count: int) -> None:
        self.many = [f"entry-{number:05}" for number in range(count)]
        self.clone("many", self.many, b"x")

    def fill_wide(self, count: int, size: int) -> None:
        self.noise("wide/f00", size)
        for number in range(1, count):
            self.copy("wide/f00", f"wide/f{number:02}")

    def fill_tree(self, count: int) -> None:
        """A git work tree of small files, 100 in a folder, with their modes and times in the metadata."""
        self.tree = [f"d{number // self.per_folder:04}/f{number:06}" for number in range(count)]
        local, body = self.folder / "disk-tree", os.urandom(self.leaf_size)
        for name in self.tree:
            path = local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            os.utime(path, (MTIME, MTIME))
        make_repository(local)
        folders = sorted({name.split("/")[0] for name in self.tree})
        self.clone("tree", self.tree, body, folders)
        repository = sorted((local / ".git").rglob("*"))
        for path in repository:
            key = f"tree/{path.relative_to(local)}"
            if path.is_dir():
                self.marker(key)
            else:
                self.s3.upload_file(str(path), self.bucket, key)
        self.marker("tree/.git")
        self.tree_entries = len(self.tree) + len(folders) + len(repository) + 2

    def marker(self, key: str) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key + "/", ContentType="application/x-directory",
                           Metadata={"mode": str(0o040755), "mtime": str(MTIME)})

    def clone(self, folder: str, names: list[str], body: bytes, folders: list[str] | None = None) -> None:
        """Many objects alike, fast: one is put, the others are made as MinIO (of the pinned version) keeps small
        ones, a directory with a copy of the first's xl.meta. What the server then lists is counted."""
        self.marker(folder)
        first = f"{folder}/{names[0]}"
        self.s3.put_object(Bucket=self.bucket, Key=first, Body=body,
                           Metadata={"mode": str(0o100644), "mtime": str(MTIME)})
        data = self.minio.data / self.bucket
        kept, mark = ((data / name / "xl.meta").read_bytes() for name in (first, folder + "__XLDIR__"))
        for name in folders or []:
            write_object(f"{data}/{folder}/{name}__XLDIR__", mark)
        for name in names[1:]:
            write_object(f"{data}/{folder}/{name}", kept)
        if (found := self.count(folder + "/")) != 1 + len(names) + len(folders or []):
            raise Failed(f"MinIO shows {found} objects in {folder}/ after {len(names)} were made")
        last = self.s3.get_object(Bucket=self.bucket, Key=f"{folder}/{names[-1]}")["Body"].read()
        if last != body:
            raise Failed(f"MinIO does not give back {folder}/{names[-1]} as it was made")

    # Looking at what a case did, and making room again.
    def keys(self, prefix: str) -> dict[str, int]:
        """Sizes by key."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def count(self, prefix: str) -> int:
        return len(self.keys(prefix))

    def copy(self, source: str, target: str) -> None:
        self.s3.copy_object(Bucket=self.bucket, Key=target, CopySource=f"{self.bucket}/{source}")

    def part(self, key: str, offset: int, length: int) -> bytes:
        span = f"bytes={offset}-{offset + length - 1}"
        return self.s3.get_object(Bucket=self.bucket, Key=key, Range=span)["Body"].read()

    def body(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def sum(self, key: str) -> str:
        digest = hashlib.sha256()
        for piece in self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(PIECE):
            digest.update(piece)
        return digest.hexdigest()

    def check(self, key: str, size: int) -> None:
        """What a case wrote is really there."""
        found = self.s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        if found != size:
            raise Failed(f"{key} has {found} bytes in the store, {size} were written")

    def remove(self, prefix: str) -> None:
        keys = [{"Key": key} for key in self.keys(prefix)]
        for start in range(0, len(keys), 1000):
            self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": keys[start:start + 1000], "Quiet": True})


def write_object(folder: str, kept: bytes) -> None:
    os.makedirs(folder)
    with open(folder + "/xl.meta", "wb", buffering=0) as file:
        file.write(kept)


def make_repository(folder: Path) -> None:
    """checkStat and trustctime: inode numbers and ctimes differ on every mount, sizes and mtimes must do."""
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@localhost",
                        "-c", "safe.directory=*", *arguments], check=True, stdout=subprocess.DEVNULL)

    shutil.rmtree(folder / ".git", ignore_errors=True)
    git("init", "-q", "--template=", "-b", "main")
    for name, value in (("core.checkStat", "minimal"), ("core.trustctime", "false"), ("core.fileMode", "false"),
                        ("gc.auto", "0")):
        git("config", name, value)
    git("add", ".")
    git("commit", "-q", "-m", "the tree")
    git("repack", "-a", "-d", "-q")
