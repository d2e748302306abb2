"""Hosts on one machine without root: namespaces with their own network address, processes, /dev/shm and name, wired
to one bridge. They share the disk, as hosts with NFS do, except for the folders that are their own."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

NETWORK = "10.77.0"
ENTER = ("-U", "-n", "-m", "-u", "-p", "--preserve-credentials", "--")


class Wire:
    """The network between hosts. It and all its hosts end with `close`."""

    def __init__(self) -> None:
        """Raises OSError if this machine has no user namespaces, or no bridges in them."""
        self._holder = started(["unshare", "-Urn", "sh", "-c", "echo ready; exec sleep infinity"])
        self.hosts: list[Host] = []
        for command in ("link add br0 type bridge", "link set br0 up", "link set lo up"):
            if self.ip(command):
                self.close()
                raise OSError(f"ip {command}")

    def enter(self) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-U", "-n", "--preserve-credentials"]

    def ip(self, command: str) -> int:
        return subprocess.run([*self.enter(), "ip", *command.split()], capture_output=True).returncode

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
        self._holder.kill()
        self._holder.wait()


class Host:
    """`own`: folders that only this host sees, and empty. `address`: its IP address."""

    def __init__(self, wire: Wire, own: Sequence[Path]) -> None:
        number = len(wire.hosts) + 1
        self.address, self.name, self._wire, self._plug = f"{NETWORK}.{number}", f"host-{number}", wire, f"plug{number}"
        mounts = [f"mount -t tmpfs none '{folder}'" for folder in (*own, "/dev/shm")]
        script = "; ".join(
            ["mount -t proc proc /proc", *mounts, f"hostname {self.name}", "echo ready", "exec sleep infinity"]
        )
        unshare = ["unshare", "-nmu", "-pf", "--kill-child", "bash", "-ec", script]
        self._outer = started([*wire.enter(), *unshare])
        (init,) = psutil.Process(self._outer.pid).children()
        self._init = init.pid
        wire.hosts.append(self)
        wire.ip(f"link add {self._plug} type veth peer name eth0 netns {self._init}")
        wire.ip(f"link set {self._plug} master br0")
        wire.ip(f"link set {self._plug} up")
        for command in (f"addr add {self.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            subprocess.run(self.command("ip", *command.split()), check=True)

    def command(self, *words: str) -> list[str]:
        """A command line that runs `words` on this host."""
        return ["nsenter", "-t", str(self._init), *ENTER, *words]

    def cut(self) -> None:
        """Pull the plug: packets are lost, and nobody is told."""
        self._wire.ip(f"link set {self._plug} nomaster")

    def kill(self) -> None:
        """As by a power cut: every process of the host dies at once."""
        if self._outer.poll() is None:
            os.kill(self._init, signal.SIGKILL)
            self._outer.wait()


def started(command: Sequence[str]) -> subprocess.Popen[str]:
    """A process that has said that it is ready. Raises OSError if it ends before."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise OSError(process.communicate()[1].strip())
    return process


@contextmanager
def wired() -> Iterator[Wire]:
    wire = Wire()
    try:
        yield wire
    finally:
        wire.close()
