"""The conformance suite over SFTP and over commands. A file of its own: it takes as long as all of test_c_programs.py."""

import pytest

from servers.sshd import busybox_only

from .test_c_programs import PROGRAM_SECONDS, run_program

pytestmark = pytest.mark.timeout(2 * PROGRAM_SECONDS)


def test_conformance_over_sftp(build_dir, sshd):
    run_program(build_dir / "tests/contract/contract_sftp", **contract_environment(sshd))


def test_conformance_over_sftp_without_extensions(build_dir, sftp_server_factory):
    """A server without posix-rename, fsync, statvfs, lsetstat and limits: what needs them is refused."""
    server = sftp_server_factory(sftp_options="-P posix-rename,fsync,statvfs,lsetstat,limits")
    run_program(build_dir / "tests/contract/contract_sftp", QUAY_SFTP_BARE="1", **contract_environment(server))


@pytest.mark.parametrize("busybox", [False, True])
def test_conformance_over_commands(build_dir, sftp_server_factory, folder, busybox):
    """A server without SFTP: GNU's commands and BusyBox's."""
    server = sftp_server_factory(subsystem=False, extra=busybox_only(folder / "busybox") if busybox else "")
    run_program(build_dir / "tests/contract/contract_sftp", QUAY_SFTP_OPTIONS="transfer = exec",
                QUAY_SUITE_TORN_UNKNOWN="1", **contract_environment(server))


def contract_environment(server):
    return {"QUAY_SFTP_ENDPOINT": f"127.0.0.1:{server.port}", "QUAY_SFTP_USER": server.user,
            "QUAY_SFTP_KEY": str(server.key), "QUAY_SFTP_KNOWN_HOSTS": str(server.known_hosts),
            "QUAY_SFTP_DIR": str(server.data)}
