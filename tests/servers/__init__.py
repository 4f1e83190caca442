"""Real servers on loopback for the tests and the bench, and some that misbehave. One line each: see the files."""

# ruff: noqa: F401
from .azurite import Azurite
from .base import Server, ServerFailed, free_port
from .commit_proxy import CommitProxy
from .fakegcs import FakeGCS
from .fakegcs_process import FakeGcsProcess
from .fakegcsserver import FakeGcsServer
from .fakes3 import FakeS3
from .huges3 import HugeS3
from .manys3 import ManyS3
from .mariadb import MariaDB
from .million import Million
from .minio import MinIO
from .moto import Moto
from .postgres import PostgreSQL
from .proxy import Fault, FaultProxy
from .relay import Relay
from .slow import SlowProxy
from .sshd import SSHD
from .versitygw import VersityGW
from .web import FakeWeb, Nginx, PythonHttp, Reply, TlsNginx
