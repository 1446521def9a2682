"""nf_tables' messages: one table of IPv4, chains, rules of a few kinds, and maps from addresses to chains."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pyroute2.netlink import nla
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
    nft_chain_msg,
    nft_rule_msg,
    nft_set_elem_list_msg,
    nft_set_msg,
    nft_table_msg,
)

from lisrt.kernel.netlink import ACK, CREATE, REQUEST, Netlink

TABLE = "lisrt"
DROP, ACCEPT = 0, 1
_JUMP = -3
_SUBSYSTEM = 10
_BEGIN, _END = 16, 17
_APPEND = 0x800
_ADDRESS_TYPE, _VERDICT_TYPE = 7, 0xFFFFFF00
_REGISTER, _VERDICT = 1, 0
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_PROTOCOL, _IN, _OUT = 16, 6, 7
"""Keys of `meta`: the transport protocol; the names of interfaces."""
_ESTABLISHED_OR_RELATED = 2 | 4
INPUT, FORWARD, PREROUTING, POSTROUTING = 1, 2, 0, 4
"""Hooks."""

Expression = dict[str, object]


def commit(rules: Netlink, *messages: bytes) -> None:
    """All of it, or, with OSError, nothing."""
    rules.ask(_edge(_BEGIN), *messages, _edge(_END))


def _edge(kind: int) -> bytes:
    message = nfgen_msg()
    message["header"]["type"], message["header"]["flags"] = kind, REQUEST
    message["res_id"] = _SUBSYSTEM
    message.encode()
    return bytes(message.data)


def _message(message: Any, kind: int, attributes: list[tuple[str, object]], flags: int = CREATE) -> bytes:
    message["header"]["type"] = _SUBSYSTEM << 8 | kind
    message["header"]["flags"] = REQUEST | ACK | flags
    message["nfgen_family"] = socket.AF_INET
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data)


def table() -> bytes:
    """The table that all the rest is in."""
    return _message(nft_table_msg(), NFT_MSG_NEWTABLE, [("NFTA_TABLE_NAME", TABLE)])


def hooked(name: str, kind: str, hook: int, priority: int, policy: int = ACCEPT) -> bytes:
    """A chain that packets come through at that hook."""
    where = {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]}
    attributes = _chain(name) + [("NFTA_CHAIN_HOOK", where), ("NFTA_CHAIN_TYPE", kind), ("NFTA_CHAIN_POLICY", policy)]
    return _message(nft_chain_msg(), NFT_MSG_NEWCHAIN, attributes)


def chain(name: str) -> bytes:
    """A chain that others jump to."""
    return _message(nft_chain_msg(), NFT_MSG_NEWCHAIN, _chain(name))


def delete_chain(name: str) -> bytes:
    """With its rules; nobody may jump there any more."""
    return _message(nft_chain_msg(), NFT_MSG_DELCHAIN, _chain(name), flags=0)


def _chain(name: str) -> list[tuple[str, object]]:
    return [("NFTA_CHAIN_TABLE", TABLE), ("NFTA_CHAIN_NAME", name)]


class _Rule(nft_rule_msg):  # type: ignore[misc]
    """pyroute2's has 16 bits for a quota, which has 64, and nothing in a dynset."""

    class nft_expr(nft_rule_msg.nft_expr):  # type: ignore[misc]
        class nft_quota(nla):  # type: ignore[misc]
            nla_map = (
                ("NFTA_QUOTA_UNSPEC", "none"),
                ("NFTA_QUOTA_BYTES", "be64"),
                ("NFTA_QUOTA_FLAGS", "be32"),
            )

        class nft_dynset(nla):  # type: ignore[misc]
            nla_map = (
                ("NFTA_DYNSET_UNSPEC", "none"),
                ("NFTA_DYNSET_SET_NAME", "asciiz"),
                ("NFTA_DYNSET_SET_ID", "be32"),
                ("NFTA_DYNSET_OP", "be32"),
                ("NFTA_DYNSET_SREG_KEY", "be32"),
                ("NFTA_DYNSET_SREG_DATA", "be32"),
                ("NFTA_DYNSET_TIMEOUT", "be64"),
                ("NFTA_DYNSET_EXPR", "inner"),
            )

            class inner(nla):  # type: ignore[misc]
                nla_map = (
                    ("NFTA_EXPR_UNSPEC", "none"),
                    ("NFTA_EXPR_NAME", "asciiz"),
                    ("NFTA_EXPR_DATA", "connlimit"),
                )

                class connlimit(nla):  # type: ignore[misc]
                    nla_map = (
                        ("NFTA_CONNLIMIT_UNSPEC", "none"),
                        ("NFTA_CONNLIMIT_COUNT", "be32"),
                        ("NFTA_CONNLIMIT_FLAGS", "be32"),
                    )


def rule(into: str, *expressions: Expression) -> bytes:
    """At the end of a chain."""
    attributes: list[tuple[str, object]] = [
        ("NFTA_RULE_TABLE", TABLE),
        ("NFTA_RULE_CHAIN", into),
        ("NFTA_RULE_EXPRESSIONS", list(expressions)),
    ]
    return _message(_Rule(), NFT_MSG_NEWRULE, attributes, flags=CREATE | _APPEND)


def verdict_map(name: str, number: int) -> bytes:
    """From addresses to chains. `number`: its own within a batch."""
    attributes: list[tuple[str, object]] = [
        ("NFTA_SET_TABLE", TABLE),
        ("NFTA_SET_NAME", name),
        ("NFTA_SET_FLAGS", {"NFT_SET_MAP"}),
        ("NFTA_SET_KEY_TYPE", _ADDRESS_TYPE),
        ("NFTA_SET_KEY_LEN", 4),
        ("NFTA_SET_DATA_TYPE", _VERDICT_TYPE),
        ("NFTA_SET_DATA_LEN", 0),
        ("NFTA_SET_ID", number),
    ]
    return _message(nft_set_msg(), NFT_MSG_NEWSET, attributes)


def senders(name: str, number: int) -> bytes:
    """A set that rules add who sends to. `number`: its own within a batch."""
    attributes: list[tuple[str, object]] = [
        ("NFTA_SET_TABLE", TABLE),
        ("NFTA_SET_NAME", name),
        ("NFTA_SET_FLAGS", {"NFT_SET_EVAL"}),
        ("NFTA_SET_KEY_TYPE", _ADDRESS_TYPE),
        ("NFTA_SET_KEY_LEN", 4),
        ("NFTA_SET_ID", number),
    ]
    return _message(nft_set_msg(), NFT_MSG_NEWSET, attributes)


def element(of: str, address: str, into: str, *, gone: bool = False) -> bytes:
    """In the map: that address leads to that chain."""
    key = ("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", socket.inet_aton(address))]})
    jump = ("NFTA_SET_ELEM_DATA", {"attrs": [("NFTA_DATA_VERDICT", _jump(into))]})
    attributes: list[tuple[str, object]] = [
        ("NFTA_SET_ELEM_LIST_TABLE", TABLE),
        ("NFTA_SET_ELEM_LIST_SET", of),
        ("NFTA_SET_ELEM_LIST_ELEMENTS", [{"attrs": [key] if gone else [key, jump]}]),
    ]
    kind = NFT_MSG_DELSETELEM if gone else NFT_MSG_NEWSETELEM
    return _message(nft_set_elem_list_msg(), kind, attributes, flags=0 if gone else CREATE)


def _jump(into: str) -> dict[str, object]:
    return {"attrs": [("NFTA_VERDICT_CODE", _JUMP), ("NFTA_VERDICT_CHAIN", into)]}


# What a rule is made of. Values go through the first register.


def _expression(name: str, *attributes: tuple[str, object]) -> Expression:
    prefix = f"NFTA_{name.upper()}_"
    data = {"attrs": [(prefix + key, value) for key, value in attributes]}
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", data)]}


def _equals(value: bytes, *, differs: bool = False) -> Expression:
    data = {"attrs": [("NFTA_DATA_VALUE", value)]}
    return _expression("cmp", ("SREG", _REGISTER), ("OP", int(differs)), ("DATA", data))


def _payload(base: int, offset: int, size: int) -> Expression:
    return _expression("payload", ("DREG", _REGISTER), ("BASE", base), ("OFFSET", offset), ("LEN", size))


def _masked(mask: bytes) -> Expression:
    values = (("MASK", {"attrs": [("NFTA_DATA_VALUE", mask)]}), ("XOR", {"attrs": [("NFTA_DATA_VALUE", bytes(len(mask)))]}))
    return _expression("bitwise", ("SREG", _REGISTER), ("DREG", _REGISTER), ("LEN", len(mask)), *values)


def _meta(key: int) -> Expression:
    return _expression("meta", ("DREG", _REGISTER), ("KEY", key))


def comes_in(interface: str) -> tuple[Expression, ...]:
    """By that interface; `s*`: by one whose name begins so."""
    return (_meta(_IN), _equals(_name(interface)))


def goes_out(interface: str) -> tuple[Expression, ...]:
    """Likewise."""
    return (_meta(_OUT), _equals(_name(interface)))


def _name(interface: str) -> bytes:
    return interface[:-1].encode() if interface.endswith("*") else interface.encode().ljust(16, b"\0")


def goes_to(network: str) -> tuple[Expression, ...]:
    """To an address, or one in a range of them."""
    found = IPv4Network(network)
    load = _payload(_NETWORK_HEADER, 16, 4)
    if found.prefixlen == 32:
        return (load, _equals(found.network_address.packed))
    return (load, _masked(found.netmask.packed), _equals(found.network_address.packed))


def to_port(port: int, protocol: int) -> tuple[Expression, ...]:
    """TCP (6) or UDP (17)."""
    number = port.to_bytes(2, "big")
    return (_meta(_PROTOCOL), _equals(bytes([protocol])), _payload(_TRANSPORT_HEADER, 2, 2), _equals(number))


def of_protocol(protocol: int) -> tuple[Expression, ...]:
    """TCP (6), say."""
    return (_meta(_PROTOCOL), _equals(bytes([protocol])))


def belongs() -> tuple[Expression, ...]:
    """To a connection that was let through before."""
    state = _expression("ct", ("DREG", _REGISTER), ("KEY", 0))
    mask = _ESTABLISHED_OR_RELATED.to_bytes(4, "little")
    return (state, _masked(mask), _equals(bytes(4), differs=True))


def answers() -> tuple[Expression, ...]:
    """In the direction in which the connection was not opened."""
    return (_expression("ct", ("DREG", _REGISTER), ("KEY", 1)), _equals(b"\1"))


def by_source(of: str) -> tuple[Expression, ...]:
    """On to the chain that the map has for the sender."""
    return (_payload(_NETWORK_HEADER, 12, 4), _lookup(of))


def by_destination(of: str) -> tuple[Expression, ...]:
    """On to the chain that the map has for the receiver."""
    return (_payload(_NETWORK_HEADER, 16, 4), _lookup(of))


def _lookup(of: str) -> Expression:
    return _expression("lookup", ("SET", of), ("SREG", _REGISTER), ("DREG", _VERDICT))


def verdict(code: int) -> Expression:
    """DROP or ACCEPT."""
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return _expression("immediate", ("DREG", _VERDICT), ("DATA", data))


def jump(into: str) -> Expression:
    """On to another chain, and back."""
    return _expression("immediate", ("DREG", _VERDICT), ("DATA", {"attrs": [("NFTA_DATA_VERDICT", _jump(into))]}))


def refuse() -> Expression:
    """The sender is told that it is forbidden (ICMP 13)."""
    return _expression("reject", ("TYPE", 0), ("ICMP_CODE", 13))


def reset() -> Expression:
    """A TCP connection is ended for both."""
    return _expression("reject", ("TYPE", 1), ("ICMP_CODE", 0))


def has_more_than(count: int, into: str) -> tuple[Expression, ...]:
    """Who has more connections than that at once, this one too; they are counted in that set of senders."""
    limit = {"attrs": [("NFTA_CONNLIMIT_COUNT", count), ("NFTA_CONNLIMIT_FLAGS", 1)]}
    counted = {"attrs": [("NFTA_EXPR_NAME", "connlimit"), ("NFTA_EXPR_DATA", limit)]}
    added = _expression("dynset", ("SET_NAME", into), ("OP", 0), ("SREG_KEY", _REGISTER), ("EXPR", counted))
    return (_payload(_NETWORK_HEADER, 12, 4), added)


def used_up(limit: int) -> Expression:
    """After so many bytes."""
    return _expression("quota", ("BYTES", limit), ("FLAGS", 1))


def masquerade() -> Expression:
    """In the name of the interface that it leaves by."""
    return _expression("masq")


def redirect(address: str) -> tuple[Expression, ...]:
    """To another address."""
    data = {"attrs": [("NFTA_DATA_VALUE", IPv4Address(address).packed)]}
    load = _expression("immediate", ("DREG", _REGISTER), ("DATA", data))
    return (load, _expression("nat", ("TYPE", 1), ("FAMILY", socket.AF_INET), ("REG_ADDR_MIN", _REGISTER)))
