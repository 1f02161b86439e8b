"""Who may be talked to: addresses of schedulers, and what listens.

A Dask scheduler runs whatever its clients and workers send it, and asks nobody who they are. Over TLS the certificate is
the permission; over plain TCP the only protection is that nobody else can reach the address.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bigbia.errors import ParameterError

PLAIN = ("tcp", "ws", "ucx")  # schemes without encryption, and without it nobody is known
ENCRYPTED = ("tls", "wss")
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")


def check_address(address: str, insecure: bool = False) -> None:
    """Refuses a scheduler's address without TLS unless it is on this machine, or `insecure` says that it is meant.

    Nothing is connected to; a host's name is looked up.

    >>> check_address("tcp://127.0.0.1:8786")
    >>> check_address("tls://node7:8786")
    """
    shown = f"scheduler {address!r}"
    scheme, separator, location = address.partition("://")
    if not separator:
        scheme, location = "tcp", address
    if scheme in ENCRYPTED or scheme == "inproc":
        return
    if scheme not in PLAIN:
        known = ", ".join(f"{s}://" for s in (*ENCRYPTED, *PLAIN))
        raise ParameterError(f"{shown}: {scheme}:// is no way to a scheduler: write one of {known}")
    host = _host(location)
    if not host:
        raise ParameterError(f"{shown}: names no host: write for instance tls://HOST:8786")
    if insecure:
        return
    addresses = _addresses(host, shown)
    if all(map(is_loopback, addresses)):
        return
    found = "" if host in addresses else f" ({', '.join(sorted(set(addresses)))})"
    raise ParameterError(
        f"{shown}: {host}{found} is not this machine, and {scheme}:// has no TLS: anyone who can reach it can run code "
        "there, and read and change what is sent; use a tls:// address with certificates in Dask's configuration, an "
        "ssh tunnel to 127.0.0.1, or, on a network that you trust, insecure=True (--insecure)"
    )


def _host(location: str) -> str:
    """The host of HOST:PORT, [HOST]:PORT or HOST, as Dask reads it; empty where it is none."""
    if location.startswith("["):
        host, closed, _ = location[1:].partition("]")
        host = host if closed else ""
    else:
        host = location.rpartition(":")[0] if location.count(":") == 1 else location
    return host if _HOST.fullmatch(host) else ""


def _addresses(host: str, shown: str) -> list[str]:
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ParameterError(f"{shown}: there is no host {host!r} ({reason}): check its name") from None


def is_loopback(address: str) -> bool:
    """Does a numeric address stay on this machine? 0.0.0.0 does not: it stands for all of them."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


@dataclass(frozen=True)
class Listener:
    """A socket that waits for connections."""

    pid: int
    address: str
    port: int


def listeners(pids: Iterable[int]) -> list[Listener]:
    """The TCP sockets on which processes listen, from /proc (Linux). A process that has ended listens to nothing."""
    found = []
    for pid in pids:
        inodes = _sockets(pid)
        for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            try:
                lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
            except OSError:
                continue
            for words in map(str.split, lines):
                if words[3] == "0A" and words[9] in inodes:
                    address, _, port = words[1].partition(":")
                    found.append(Listener(pid, _numeric(address, family), int(port, 16)))
    return found


def _sockets(pid: int) -> set[str]:
    folder, found = f"/proc/{pid}/fd", set()
    try:
        names = os.listdir(folder)
    except OSError:
        return set()
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def _numeric(text: str, family: int) -> str:
    """The kernel's hexadecimal words, each in the machine's byte order."""
    raw = bytes.fromhex(text)
    return socket.inet_ntop(family, b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4)))
