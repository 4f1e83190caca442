"""A real sshd: own host key, own user key, own authorized_keys, on a loopback port.

The user is whoever runs the tests (root in a container). Everything is below the server's folder; nothing of
the machine's own SSH configuration is read or changed.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from .base import Server, ServerFailed

SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")


BUSYBOX = "/usr/bin/busybox"


def busybox_only(folder: Path) -> str:
    """A ForceCommand whose shell and commands are BusyBox's, as on a router."""
    applets = folder / "applets"
    applets.mkdir(parents=True)
    subprocess.run([BUSYBOX, "--install", "-s", str(applets)], check=True)
    script = folder / "login"
    script.write_text(f'#!/bin/sh\nPATH={applets}\nexport PATH\nexec {applets}/sh -c "$SSH_ORIGINAL_COMMAND"\n')
    script.chmod(0o755)
    return f"ForceCommand {script}"


def generate_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "quay-test", "-f", str(path)],
                   check=True, stdin=subprocess.DEVNULL)
    return path


def descendants(pid: int) -> list[int]:
    """Parents before their children."""
    try:
        direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return direct + [below for child in direct for below in descendants(child)]


def send_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def stop_process(pid: int) -> None:
    """SIGSTOP, until it has stopped or ended."""
    send_signal(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 100
    while process_state(pid) not in "TZX":
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.005)


def process_state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


# A new mount namespace has a copy of every mount: a file system that another test unmounts would live on in it.
# Nothing is looked up in it (-c): the one that serves it may have been stopped.
LET_GO = """awk '!/ shared:/ && / - fuse[. ]/ {print $5}' /proc/self/mountinfo | while read -r m; do
    umount -l -c -i "$(printf %b "$m")" 2>/dev/null || true; done
"""


class SSHD(Server):
    name = "sshd"
    user = getpass.getuser()

    def __init__(self, folder: Path, extra: str = "", sftp_options: str = "", subsystem: bool = True,
                 password: str = ""):
        super().__init__(folder)
        self.extra, self.sftp_options, self.subsystem, self.password = extra, sftp_options, subsystem, password
        self.data = self.folder / "data"
        self.key = self.folder / "user_key"
        self.host_key = self.folder / "host_key"
        self.known_hosts = self.folder / "known_hosts"
        self.authorized = self.folder / "authorized_keys"

    def prepare(self) -> None:
        if not Path("/usr/sbin/sshd").exists():
            raise ServerFailed("there is no sshd (Debian: openssh-server)")
        self.sftp_server = next((p for p in SFTP_SERVERS if Path(p).exists()), "internal-sftp")
        self.data.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation
        generate_key(self.host_key)
        generate_key(self.key)
        self.authorized.write_text(self.key.with_suffix(".pub").read_text())
        self.authorized.chmod(0o600)

    def configuration(self) -> str:
        lines = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.authorized}", "StrictModes no", "UsePAM no",
            "PubkeyAuthentication yes", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "PermitRootLogin yes", "PidFile none", "PrintMotd no", "UseDNS no", "LogLevel VERBOSE",
            "MaxStartups 100", "PerSourceMaxStartups none",
            "SetEnv SHLVL=1",  # bash would read ~/.bashrc: sessions that a test kills must not leave its locks behind
        ]
        if self.subsystem:
            lines.append(f"Subsystem sftp {self.sftp_server} {self.sftp_options}".rstrip())
        return self.extra + "\n" + "\n".join(lines) + "\n"  # the first of two lines counts

    def command(self) -> list[str]:
        config = self.folder / "sshd_config"
        config.write_text(self.configuration())
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
        return self.in_its_own_etc(command) if self.password else command

    def in_its_own_etc(self, command: list[str]) -> list[str]:
        """Only this sshd sees that the user has this password: /etc/shadow and PAM's file are others in its mount
        namespace; nothing of the machine's is changed."""
        if os.geteuid() != 0:
            raise ServerFailed("a password of a test's own needs root")
        hashed = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=self.password, text=True, check=True,
                                stdout=subprocess.PIPE).stdout.strip()
        shadow, pam = self.folder / "shadow", self.folder / "pam"
        shadow.touch(mode=0o600)
        shadow.write_text(f"{self.user}:{hashed}:19000:0:99999:7:::\n")
        pam.write_text("auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n")
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        # In a chroot that is no mount by itself nothing can be made private; who made it has seen to that.
        propagation = "private" if any(line.split()[4] == "/" for line in mounts) else "unchanged"
        return ["unshare", "--mount", "--propagation", propagation, "sh", "-ec",
                LET_GO + 'mount --bind "$1" /etc/shadow; mount --bind "$2" /etc/pam.d/sshd; shift 2; exec "$@"', "sh",
                str(shadow), str(pam), *command]

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
                if not sock.recv(4).startswith(b"SSH-"):
                    return False
        except OSError:
            return False
        self.trust()
        return True

    def host_public_key(self) -> str:
        return " ".join(self.host_key.with_suffix(".pub").read_text().split()[:2])

    def trust(self, *ports: int) -> Path:
        """Writes known_hosts for this server's port and others that lead to it."""
        lines = [f"[127.0.0.1]:{port} {self.host_public_key()}" for port in (self.port, *ports)]
        self.known_hosts.write_text("\n".join(lines) + "\n")
        return self.known_hosts

    def sessions(self) -> list[int]:
        """The processes that serve connections: below the listener, each in a session of its own."""
        return descendants(self.pid) if self.running() else []

    def freeze(self) -> list[int]:
        """Stops the listener, then what it has started, from the top down: nobody starts anything any more."""
        super().pause()
        frozen: list[int] = []
        while new := [pid for pid in self.sessions() if pid not in frozen]:
            frozen += new
            for pid in new:
                stop_process(pid)
        return frozen

    def pause(self) -> None:
        """The port accepts and connections stay, but nobody answers on any of them."""
        self.freeze()

    def resume(self) -> None:
        for pid in [*self.sessions(), self.pid]:
            send_signal(pid, signal.SIGCONT)

    def kill(self) -> None:
        """The listener and every session: sessions would outlive it, and serve whoever is connected."""
        if self.running():
            for pid in self.freeze():
                send_signal(pid, signal.SIGKILL)
        super().kill()

    stop = kill

    def end_sessions(self) -> None:
        """Every connection is lost; the listener goes on."""
        if self.running():
            for pid in self.freeze():
                send_signal(pid, signal.SIGKILL)
            self.resume()

    def logins(self) -> int:
        return self.log.read_text(errors="replace").count("Accepted ")

    def store(self, folder: str = "", **more: object) -> dict[str, object]:
        """The options of a [store] section on this server."""
        return {
            "backend": "sftp",
            "endpoints": f"127.0.0.1:{self.port}",
            "user": self.user,
            "key_file": self.key,
            "agent": "no",
            "known_hosts": self.known_hosts,
            "base_path": self.data / folder if folder else self.data,
            **more,
        }
