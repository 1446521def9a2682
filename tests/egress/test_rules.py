"""What rules say of hosts, however these are written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisrt.egress.rules import Policy, is_public, literal, normal, parse, unwrapped


@pytest.mark.parametrize(
    ("rules", "host", "port", "method", "allowed"),
    [
        (["example.org"], "example.org", 443, None, True),
        (["example.org"], "EXAMPLE.ORG.", 80, "GET", True),
        (["example.org"], "www.example.org", 443, None, False),
        (["example.org"], "badexample.org", 443, None, False),
        (["example.org"], "example.org.evil.net", 443, None, False),
        (["example.org"], "example.org", 22, None, False),
        (["example.org:22"], "example.org", 22, None, True),
        (["example.org:22"], "example.org", 443, None, False),
        (["example.org:*"], "example.org", 6666, None, True),
        (["*.example.org"], "a.b.example.org", 443, None, True),
        (["*.example.org"], "example.org", 443, None, False),
        (["*.example.org"], "xexample.org", 443, None, False),
        (["*"], "anything.test", 443, None, True),
        (["*"], "anything.test", 22, None, False),
        (["*:*"], "93.184.216.34", 443, None, False),
        (["bücher.example"], "xn--bcher-kva.example", 443, None, True),
        (["GET,HEAD example.org"], "example.org", 80, "GET", True),
        (["GET,HEAD example.org"], "example.org", 80, "POST", False),
        (["GET,HEAD example.org"], "example.org", 443, None, False),
        (["192.0.2.0/24"], "192.0.2.7", 443, None, True),
        (["192.0.2.0/24"], "3221225991", 443, None, True),
        (["192.0.2.0/24:8080"], "192.0.2.7", 443, None, False),
        (["[2001:db8::]/32"], "2001:db8::1", 443, None, True),
        (["[2001:db8::1]:8443"], "[2001:db8::1]", 8443, None, True),
        ([], "example.org", 443, None, False),
    ],
)
def test_who_may_be_asked_for(rules: list[str], host: str, port: int, method: str | None, allowed: bool) -> None:
    assert Policy(rules).of_host(host, port, method).allowed is allowed


def test_denial_goes_first_and_is_named() -> None:
    policy = Policy(["*.example.org", "10.0.0.0/8"], ["secret.example.org:*", "10.0.0.1"])
    assert policy.of_host("www.example.org", 443, None).rule == "*.example.org"
    verdict = policy.of_host("secret.example.org", 443, None)
    assert (verdict.allowed, verdict.rule) == (False, "secret.example.org:*")
    assert "secret.example.org" in verdict.why
    assert policy.of_host("10.0.0.2", 443, None).allowed and not policy.of_host("10.0.0.1", 443, None).allowed
    assert policy.of_host("elsewhere.test", 443, None).why == "no rule allows elsewhere.test:443"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a b", "get example.org", "https://example.org", "example.org/path", "exa*mple.org", "*example.org", "*."),
        *("example.org:", "example.org:0", "example.org:65536", "example.org:http", "user@example.org", "-a.org", "a..b"),
        *("::1", "[::1", "[::1]x", "10.0.0.0/33", "10.0.0.1/8", "0x7f.1", "127.1", "2130706433", "a" * 64, "*.*.example.org"),
    ],
)
def test_what_is_no_rule(text: str) -> None:
    """Said at once, with the rule."""
    with pytest.raises(ValueError, match="is no rule"):
        parse(text)


def test_one_text_is_no_list() -> None:
    with pytest.raises(TypeError, match="a list of texts"):
        Policy("example.org")
    with pytest.raises(TypeError, match="a rule is text"):
        Policy([443])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f000001", "0x7f.0.0.1", "2130706433", "017700000001", "0177.0.0.01", "127.0.0.1."),
        *("::1", "[::1]", "::ffff:127.0.0.1", "[::ffff:7f00:1]", "::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"),
        *("0.0.0.0", "0", "::", "[::]", "169.254.169.254", "0xa9fea9fe", "::ffff:169.254.169.254", "fe80::1%eth0"),
        *("10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "fd00:ec2::254", "168.63.129.16", "224.0.0.1"),
        "255.255.255.255",
    ],
)
def test_no_way_of_writing_an_address_gets_there(host: str) -> None:
    """Rules about names are about names; and what a name leads to is no such address either."""
    policy = Policy(["*:*"])
    assert not policy.of_host(host, 80, "GET").allowed
    address = literal(host)
    assert address is not None
    by_name = policy.of_host("rebound.test", 80, "GET")
    assert by_name.allowed and not policy.of_address(address, 80, "GET", by_name=by_name).allowed


def test_a_name_may_lead_to_what_a_rule_about_addresses_allows() -> None:
    policy = Policy(["intern.test", "10.0.0.0/24"])
    by_name = policy.of_host("intern.test", 80, "GET")
    found = [policy.of_address(ipaddress.ip_address(f"10.0.{net}.1"), 80, "GET", by_name=by_name) for net in (0, 1)]
    assert [one.allowed for one in found] == [True, False]
    assert found[0].by_address and found[0].rule == "10.0.0.0/24"
    public = policy.of_address(ipaddress.ip_address("93.184.216.34"), 80, "GET", by_name=by_name)
    assert (public.allowed, public.by_address, public.rule) == (True, False, "intern.test")


@given(st.ip_addresses())
def test_only_public_addresses_are_reached_by_name(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Whatever they carry, too."""
    policy = Policy(["*:*"])
    by_name = policy.of_host("name.test", 80, None)
    allowed = policy.of_address(address, 80, None, by_name=by_name).allowed
    assert allowed == all(is_public(one) for one in unwrapped(address))


@given(st.text(max_size=80))
def test_any_text_is_a_host_or_not(text: str) -> None:
    """It is an address, a name, or an error; never allowed where no rule allows it."""
    assert not Policy([]).of_host(text, 80, None).allowed
    try:
        assert normal(normal(text)) == normal(text)
    except ValueError:
        pass
