"""Which network address tells one visitor from another, from what a request says of where it came from."""

from __future__ import annotations

import ipaddress

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(peer: str | None, forwarded_for: str, *, proxies: int = 0, on_space: bool = False) -> str:
    """The address that tells one person from another, "" where none does.

    peer: who connected. forwarded_for: the header X-Forwarded-For, in which each proxy adds on the right whom it spoke
    with, such as "203.0.113.9, 10.0.0.3"; whatever stands further left may be made up. With `proxies` in front, the
    address is that many places from the right. A Space's proxies have private addresses: there it is the rightmost
    public one. A home or an office has 2^64 addresses of IPv6, so those are cut to what its owner was given. A loopback
    address is the owner of this computer, or a proxy that nobody has told of: it tells nothing.
    """
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    if on_space:
        public = (address for hop in reversed(hops) if (address := _parsed(hop)) and address.is_global)
        return _shown(next(public, None))
    if proxies and len(hops) >= proxies:
        return _shown(_parsed(hops[-proxies]))
    return _shown(_parsed(peer or ""))


def _parsed(text: str) -> _Address | None:
    """An address as proxies write it: bare, "[2001:db8::1]:443" or "203.0.113.9:443"."""
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
