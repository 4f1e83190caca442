"""Real servers on loopback for the tests and the bench, and some that misbehave. One line each: see the files."""
"""Real servers on loopback for the tests and the bench: MinIO, PostgreSQL, sshd, and a proxy that misbehaves."""

# ruff: noqa: F401
from .azurite import Azurite
from .base import Server, ServerFailed, free_port
from .commit_proxy import CommitProxy
from .fakegcs import FakeGCS
from .fakes3 import FakeS3
from .manys3 import ManyS3
from .mariadb import MariaDB
from .million import Million
from .minio import MinIO
from .moto import Moto
from .postgres import PostgreSQL
from .proxy import Fault, FaultProxy
from .relay import Relay
from .slow import SlowProxy
from .versitygw import VersityGW
from .web import FakeWeb, Nginx, PythonHttp, Reply, TlsNginx
from .fakegcsserver import FakeGcsServer
from .sshd import SSHD

__all__ = ["CommitProxy", "FakeGCS", "FakeS3", "FakeWeb", "Fault", "FaultProxy", "ManyS3", "MariaDB", "Million", "MinIO", "Nginx", "PostgreSQL", "PythonHttp",
           "Reply", "SSHD", "Server", "ServerFailed", "SlowProxy", "free_port"]
__all__ = ["FakeGCS", "FakeS3", "FakeWeb", "Fault", "FaultProxy", "ManyS3", "Million", "MinIO", "Nginx", "PostgreSQL", "PythonHttp",
           "Relay", "Reply", "SSHD", "Server", "ServerFailed", "SlowProxy", "free_port"]
__all__ = ["Azurite", "FakeGCS", "FakeS3", "FakeWeb", "Fault", "FaultProxy", "ManyS3", "Million", "MinIO", "Nginx", "PostgreSQL", "PythonHttp",
           "Reply", "Server", "ServerFailed", "SlowProxy", "free_port"]
__all__ = ["FakeGCS", "FakeS3", "FakeWeb", "Fault", "FaultProxy", "ManyS3", "Million", "MinIO", "Nginx", "PostgreSQL", "PythonHttp",
           "Reply", "SSHD", "Server", "ServerFailed", "SlowProxy", "TlsNginx", "free_port"]
