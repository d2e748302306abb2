"""The hosts of test_two_hosts.py: they hear each other, share a disk except for their own folders, and can be lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.hosts import Host, wired

SERVER = "import socket\nserver = socket.create_server(('', 7001))\nprint(1, flush=True)\nwhile 1: server.accept()"


def can_connect(host: Host, to: Host) -> bool:
    command = host.command("timeout", "1", "bash", "-c", f"echo > /dev/tcp/{to.address}/7001")
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def test_two_hosts_a_cut_wire_and_a_lost_host(tmp_path: Path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "file").touch()
    try:
        with wired() as wire:
            first, second = Host(wire, []), Host(wire, [own])
            command = first.command(sys.executable, "-S", "-c", SERVER)
            with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
                assert server.stdout is not None
                server.stdout.readline()
                assert can_connect(second, first)
                seen = subprocess.run(second.command("ls", str(tmp_path), str(own)), capture_output=True, text=True)
                assert seen.stdout.split() == [f"{tmp_path}:", "own", f"{own}:"]
                second.cut()
                assert not can_connect(second, first)
                first.kill()
                assert server.wait(10) != 0
    except OSError as error:
        pytest.skip(f"this machine has no namespaces of users, networks and processes: {error}")
