"""The C test programs that need a server: the conformance suite over S3, HTTP, Cloud Storage and Azure, the
transfer engine over PostgreSQL. ctest leaves them out (labels contract_s3 ... and loader_pg)."""

import os
import subprocess

import pytest

from servers import FakeGCS, Nginx, PythonHttp

PROGRAM_SECONDS = 1800  # for what hangs: on a busy machine the suite over commands takes minutes
pytestmark = pytest.mark.timeout(2 * PROGRAM_SECONDS)


def run_program(path, **environment):
    done = subprocess.run([str(path)], env={**os.environ, **environment}, text=True, timeout=PROGRAM_SECONDS,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "passed, 0 failed" in done.stdout


def test_conformance_over_s3(build_dir, bucket, versioned_bucket):
    run_program(build_dir / "tests/contract/contract_s3", QUAY_S3_ENDPOINT=bucket.minio.endpoint,
                QUAY_S3_ACCESS_KEY=bucket.minio.user, QUAY_S3_SECRET_KEY=bucket.minio.password,
                QUAY_S3_BUCKET=bucket.name, QUAY_S3_VERSIONED_BUCKET=versioned_bucket.name)


def test_conformance_over_gcs(build_dir, gcs):
    keeping = FakeGCS().start()
    keeping.versioning, keeping.page = True, 2
    try:
        run_program(build_dir / "tests/contract/contract_gcs", QUAY_GCS_ENDPOINT=gcs.endpoint,
                    QUAY_GCS_BUCKET=gcs.bucket, QUAY_GCS_VERSIONED_ENDPOINT=keeping.endpoint)
    finally:
        keeping.stop()


def test_conformance_over_azure(build_dir, container):
    server = container.server
    run_program(build_dir / "tests/contract/contract_azure", QUAY_AZURE_ENDPOINT=server.endpoint,
                QUAY_AZURE_ACCOUNT=server.account, QUAY_AZURE_KEY=server.key,
                QUAY_AZURE_CONTAINER=container.name)


def test_transfer_over_postgres(build_dir, postgres):
    server = postgres.server
    uri = f"postgresql://{server.user}@127.0.0.1:{server.port}/{postgres.name}"
    run_program(build_dir / "tests/unit/t_transfer_postgres", QUAY_PG_DSN=uri,
                PGPASSWORD=server.password)


@pytest.mark.parametrize("kind, place", [(Nginx, ""), (Nginx, "json/"), (PythonHttp, "")])
def test_conformance_over_http(build_dir, folder, kind, place):
    with kind(folder / "web") as server:
        run_program(build_dir / "tests/contract/contract_http", QUAY_HTTP_URL=server.url + place,
                    QUAY_HTTP_ROOT=str(server.root))


def test_conformance_over_postgres(build_dir, postgres):
    server = postgres.server
    run_program(build_dir / "tests/contract/contract_postgres", PGPASSWORD=server.password,
                QUAY_PG_DSN=f"postgresql://{server.user}@127.0.0.1:{server.port}/{postgres.name}")


def test_conformance_over_mysql(build_dir, mariadb):
    server = mariadb.server
    run_program(build_dir / "tests/contract/contract_mysql", QUAY_MYSQL_PORT=str(server.port),
                QUAY_MYSQL_USER=server.user, QUAY_MYSQL_PASSWORD=server.password, QUAY_MYSQL_DB=mariadb.name)
