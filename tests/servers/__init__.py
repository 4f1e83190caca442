"""Real servers on loopback for the tests and the bench: MinIO, PostgreSQL, and a proxy that misbehaves."""

from .base import Server, ServerFailed, free_port
from .fakes3 import FakeS3
from .manys3 import ManyS3
from .million import Million
from .minio import MinIO
from .postgres import PostgreSQL
from .proxy import Fault, FaultProxy
from .slow import SlowProxy

__all__ = ["Fault", "FakeS3", "FaultProxy", "ManyS3", "Million", "MinIO", "PostgreSQL", "Server", "ServerFailed",
           "SlowProxy", "free_port"]
