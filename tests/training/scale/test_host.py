"""Who started a training process, and by which interface the others reach it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from drift.training.scale.host import free_port, interface_variables

TWO_NODES = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
INNER = """
import time
from drift.training.scale.host import end_with_parent
end_with_parent()
print(1, flush=True)
time.sleep(600)
"""
OUTER = f"""
import subprocess, sys
inner = {INNER!r}
child = subprocess.Popen([sys.executable, "-c", inner], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def own_interface() -> tuple[str, str]:
    """Name and address of an interface that is not the loopback."""
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family.name == "AF_INET" and not one.address.startswith("127."):
                return name, one.address
    pytest.skip("this machine has no network")


def test_several_machines_name_the_interface_towards_the_first():
    name, address = own_interface()
    found = interface_variables({**TWO_NODES, "MASTER_ADDR": address, "MASTER_PORT": "29500"})
    assert found == {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": f"={name}"}
    by_user = interface_variables({**TWO_NODES, "MASTER_ADDR": address, "GLOO_SOCKET_IFNAME": "mine"})
    assert by_user == {"NCCL_SOCKET_IFNAME": f"={name}"}


@pytest.mark.parametrize(
    "env",
    [
        {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1"},
        {**TWO_NODES, "MASTER_ADDR": "127.0.0.1"},
        {**TWO_NODES, "MASTER_ADDR": "no such host.invalid"},
        TWO_NODES,
        {},
    ],
    ids=["one machine", "loopback", "unknown", "no address", "alone"],
)
def test_otherwise_the_libraries_choose(env):
    assert interface_variables(env) == {}


def test_a_process_ends_with_the_one_that_started_it():
    outer = subprocess.Popen([sys.executable, "-c", OUTER], stdout=subprocess.PIPE, text=True)
    assert outer.stdout is not None
    inner = psutil.Process(int(outer.stdout.readline()))
    os.kill(outer.pid, signal.SIGKILL)
    outer.wait()
    deadline = time.monotonic() + 30
    while inner.is_running() and inner.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_free_port_can_be_taken():
    assert 1024 <= free_port("127.0.0.1") < 65536
