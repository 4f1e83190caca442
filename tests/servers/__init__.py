"""Real servers on loopback for the tests and the bench: MinIO, PostgreSQL, and a proxy that misbehaves."""

from .base import Server, ServerFailed, free_port
from .fakes3 import FakeS3
from .minio import MinIO
from .postgres import PostgreSQL
from .proxy import Fault, FaultProxy

__all__ = ["Fault", "FakeS3", "FaultProxy", "MinIO", "PostgreSQL", "Server", "ServerFailed", "free_port"]
