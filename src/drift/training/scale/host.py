"""What a training process must know of its machine: who started it, and by which interface others reach it."""

import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Mapping

_LOOK_SECONDS = 1.0
_SIOCGIFADDR = 0x8915  # netdevice(7): the IPv4 address of an interface
_INTERFACE = {"GLOO_SOCKET_IFNAME": "{}", "NCCL_SOCKET_IFNAME": "={}"}  # NCCL takes a name without `=` as a prefix


def end_with_parent() -> None:
    """Let this process end, within a second, when the one that started it has died."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def interface_variables(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that name the network interface for gloo and NCCL, for processes on several machines.

    Without them, gloo looks up this machine's own name, which is 127.0.0.1 on many. It is the interface by which this
    machine reaches the first one (MASTER_ADDR). Empty if all processes are on one machine, if the first one is reached
    by the loopback or by IPv6, or if the user has set them.
    """
    if int(env.get("WORLD_SIZE", "1")) <= int(env.get("LOCAL_WORLD_SIZE", "1")) or "MASTER_ADDR" not in env:
        return {}
    name = _interface_of(_address_towards(env["MASTER_ADDR"], int(env.get("MASTER_PORT", "1"))))
    if name is None or name == "lo":
        return {}
    return {variable: form.format(name) for variable, form in _INTERFACE.items() if variable not in env}


def _address_towards(host: str, port: int) -> str | None:
    """This machine's own address on the way to `host`; None if there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))  # of UDP: nothing is sent
        except OSError:
            return None
        return probe.getsockname()[0]


def _interface_of(address: str | None) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                packed = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has no address
                continue
            if socket.inet_ntoa(packed[20:24]) == address:
                return name
    return None


def free_port(address: str) -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]
