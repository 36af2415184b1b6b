"""Who a visitor is: one session of the page or of a program, and the network address that tells people apart."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Literal

Via = Literal["chat", "compare", "measure", "fit", "models", "learn", "api", ""]  # the tab, or the API for programs

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Visitor:
    """One session (an open page, or a call of a program), and the tab that a request came from.

    address: the network address, "" where it does not tell visitors apart.
    """

    session: str
    address: str = ""
    via: Via = ""

    @property
    def person(self) -> str:
        """By what the limits for each visitor are counted: all sessions at one address are one person."""
        return self.address or f"session {self.session}"

    @property
    def short_id(self) -> str:
        """Identifies the session in the log, without revealing its name or address."""
        return hashlib.sha256(self.session.encode()).hexdigest()[:8]


def address_of(peer: str | None, forwarded_for: str, *, proxies: int = 0, on_space: bool = False) -> str:
    """The address that tells one person from another, "" if there is none.

    peer: the connecting address. forwarded_for: the header X-Forwarded-For, such as "203.0.113.9, 10.0.0.3"; each proxy
    appends the address that connected to it, and entries further left can be made up. proxies: how many are in front of
    the playground; the address is that many entries from the right. On a Space, whose proxies have private addresses,
    it is the rightmost public one. An IPv6 address is cut to its /64 network, which is what one home or office gets. A
    loopback address is the owner of this computer or an unknown proxy, so it does not identify anyone.
    """
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    if on_space:
        public = (address for hop in reversed(hops) if (address := _parsed(hop)) and address.is_global)
        return _shown(next(public, None))
    if proxies and len(hops) >= proxies:
        return _shown(_parsed(hops[-proxies]))
    return _shown(_parsed(peer or ""))


def _parsed(text: str) -> _Address | None:
    """An address as proxies write it: bare, "[2001:db8::1]:443" or "203.0.113.9:443"; None for anything else."""
    bare = text.removeprefix("[").partition("]")[0] if text.startswith("[") else text
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _shown(address: _Address | None) -> str:
    if address is None or address.is_loopback:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
