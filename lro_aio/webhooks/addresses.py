"""Which addresses may be connected to: those of the public internet, and what is allowed besides."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Address", "Network", "literal", "networks_of", "refusal"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NEVER = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            *("64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16"),
        ),
    )
)
"""IANA's special-purpose registries (RFC 6890), written out: what ``is_global`` says differs between releases of
Python."""
_GLOBAL_V6 = IPv6Network("2000::/3")
"""All that was ever assigned to the public internet (RFC 4291, section 2.4)."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""The IPv4 address is in the last four bytes (RFC 6052)."""


def refusal(address: Address, allowed: Sequence[Network]) -> str:
    """Why an address may not be connected to; "" where it may.

    Args:
        address: As the name was resolved.
        allowed: Networks that may be connected to although they are not public.
    """
    inner = _inner(address)
    for one in (address, inner):
        if one is not None and any(one.version == network.version and one in network for network in allowed):
            return ""
    if inner is not None:
        return refusal(inner, ())
    public = address.version == 4 or address in _GLOBAL_V6
    if not public or any(address.version == network.version and address in network for network in _NEVER):
        return "is not public"
    return ""


def literal(host: str) -> Address | None:
    """The address that a host of a URL is, in brackets or not; None for a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def networks_of(allowed: bool | Sequence[str]) -> tuple[Network, ...]:
    """The networks that ``Webhooks.allow_private`` stands for.

    Raises:
        ValueError: One of them is none.
        TypeError: It is neither a bool nor a sequence.
    """
    if isinstance(allowed, bool):
        return (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")) if allowed else ()
    if isinstance(allowed, str):
        raise TypeError("Webhooks.allow_private must be True, False or a sequence of networks, not a text")
    return tuple(map(ip_network, allowed))


def _inner(address: Address) -> IPv4Address | None:
    """The IPv4 address to which packets for an IPv6 address go; None for any other."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
