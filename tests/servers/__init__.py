"""Real servers on loopback for the tests and the bench: MinIO, PostgreSQL, and a proxy that misbehaves."""

from .base import Server, ServerFailed, free_port
from .fakegcs import FakeGCS
from .fakes3 import FakeS3
from .manys3 import ManyS3
from .million import Million
from .minio import MinIO
from .postgres import PostgreSQL
from .proxy import Fault, FaultProxy
from .slow import SlowProxy
from .web import FakeWeb, Nginx, PythonHttp, Reply

__all__ = ["FakeGCS", "FakeS3", "FakeWeb", "Fault", "FaultProxy", "ManyS3", "Million", "MinIO", "Nginx", "PostgreSQL", "PythonHttp",
           "Reply", "Server", "ServerFailed", "SlowProxy", "free_port"]
