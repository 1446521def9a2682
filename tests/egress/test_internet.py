"""Tools, and programs that mean ill, with an internet that is the test's own: names, addresses and certificates are real ones."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import internet
from support.fresh import python

pytestmark = pytest.mark.usefixtures("working_host")

Scenario = Callable[[str], Any]
BEGIN = """
import json, socket, sys, threading
from support import internet
from lisrt import Proxy, Sandbox

def curl(box, url, *options):
    return box.run(["curl", "--silent", "--show-error", "--max-time", "40", *options, url], timeout=60)

def status(box, url, *options):
    return curl(box, url, "--output", "/dev/null", "--write-out", "%{http_code} %{http_connect}", *options).stdout
"""

SAY = """
import socket, sys
with socket.create_connection(("127.0.0.1", 3128), 40) as s:
    s.sendall(sys.argv[1].encode())
    print(s.recv(999).decode())
"""


@pytest.fixture(params=["native", "bwrap"])
def scenario(request: pytest.FixtureRequest, tmp_path: Path, scratch: Path) -> Scenario:
    """Runs a script on the site that leads to that internet; what it prints is JSON."""
    prefix = (*internet.COMMAND_PREFIX, sys.executable, internet.__file__, str(tmp_path))
    missing = [program for program in ("ip", "openssl", "curl") if not shutil.which(program)]
    if missing:
        pytest.skip(f"wants Debian's packages iproute2, openssl and curl; missing here: {', '.join(missing)}")
    link = ("ip", "link", "add", "site", "type", "veth")
    tried = subprocess.run([*internet.COMMAND_PREFIX, *link], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no network of the test's own can be made here: {tried.stderr}")

    def run(source: str) -> Any:
        env = {"LISRT_SCRATCH": str(scratch), "LISRT_LAUNCHER": request.param}
        done = python(BEGIN + source, cwd=tmp_path, prefix=prefix, env=env, within=120)
        return json.loads(done.stdout)

    return run


def test_tools_reach_what_is_allowed(scenario: Scenario) -> None:
    """By http and https, with this host's certificates; no more than that, and what they are told says why."""
    got = scenario("""
with Sandbox(network=Proxy(allow=["example.org", "*.example.net"])) as box:
    plain, secure = curl(box, "http://example.org/"), curl(box, "https://files.example.net/")
    denied, tunnel = curl(box, "http://example.net/"), curl(box, "https://www.example.org/")
    moved = curl(box, "http://example.org/to?http://www.example.org/", "--location")
    large = status(box, "https://files.example.net/size?5000000", "--write-out", "%{size_download}")
    record = [(one.host, one.port, one.allowed) for one in box.egress]
print(json.dumps([plain.stdout, secure.stdout, denied.stdout, tunnel.stderr, moved.stdout, large, record]))
""")
    plain, secure, denied, tunnel, moved, large, record = got
    assert json.loads(plain) == {"address": internet.ORG, "host": "example.org"}
    assert json.loads(secure) == {"address": internet.NET, "host": "files.example.net"}
    assert denied == "lisrt: no rule allows example.net:80\n"
    assert "403" in tunnel
    assert moved == "lisrt: no rule allows www.example.org:80\n"
    assert large == "5000000"
    assert ["www.example.org", 443, False] in record


def test_names_of_what_is_not_public(scenario: Scenario) -> None:
    """Whoever may name anything reaches no address that is private, this host's own, or a cloud's, by whatever name."""
    hostile = [name for name in internet.NAMES if not name.startswith(("example", "www.", "files."))]
    got = scenario(f"""
names = {hostile!r}
with Sandbox(network=Proxy(allow=["*:*"])) as box:
    print(json.dumps([[status(box, f"http://{{name}}/"), status(box, f"https://{{name}}/"),
                       status(box, f"http://{{name}}/", "--socks5-hostname", "127.0.0.1:1080")] for name in names]))
""")
    assert got == [["403 000", "000 403", "000 000"]] * len(hostile)


@pytest.mark.parametrize(
    "literal",
    ["10.0.0.5", "0xa000005", "167772165", "012.0.0.5", "10.5", "[::ffff:10.0.0.5]", "127.0.0.1", "[::1]", "0.0.0.0"]
    + ["93.184.215.14"],
)
def test_addresses_in_the_place_of_names(scenario: Scenario, literal: str) -> None:
    """None, unless a rule is about addresses."""
    request = f"GET http://{literal}/ HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
    tunnel = f"CONNECT {literal}:80 HTTP/1.1\r\nHost: example.org\r\n\r\n"
    got = scenario(f"""
with Sandbox(network=Proxy(allow=["*:*"])) as box:
    print(json.dumps([box.run(["python3", "-c", {SAY!r}, what]).stdout for what in {(request, tunnel)!r}]))
""")
    assert all(answer.startswith("HTTP/1.1 403 lisrt: ") for answer in got), got


def test_a_name_that_changes(scenario: Scenario) -> None:
    """What was checked is what is dialled: sometimes the public one is reached, never the other."""
    got = scenario("""
from lisrt.egress import names
names.KEPT = 0  # seconds for which an answer is kept: each request asks again
with Sandbox(network=Proxy(allow=["*:*"])) as box:
    print(json.dumps([curl(box, f"http://{internet.REBINDING}/").stdout for _ in range(8)]))
""")
    reached = {json.loads(answer)["address"] for answer in got if answer.startswith("{")}
    refused = {answer for answer in got if not answer.startswith("{")}
    assert reached == {internet.ORG}
    assert refused == {f"lisrt: {internet.PRIVATE} is no public address, and no rule allows it\n"}


ATTEMPTS = """
import json, socket, struct
def attempt(what):
    try: what()
    except OSError as error: return type(error).__name__ + " " + str(error.errno)
    return "done"
def link_down():  # RTM_NEWLINK for lo
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.sendall(struct.pack("=IHHIIBxHiII", 32, 16, 5, 1, 0, 0, 0, 1, 0, 1))
    error = struct.unpack_from("=IHHIIi", s.recv(4096))[5]
    if error: raise OSError(-error, "netlink")
print(json.dumps({
    "direct": attempt(lambda: socket.create_connection(("93.184.215.14", 80), 5)),
    "names": attempt(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("9.9.9.9", 53))),
    "abstract": attempt(lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + "of-the-host")),
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "link": attempt(link_down),
    "settings": attempt(lambda: open("/proc/sys/net/ipv4/ip_forward", "w")),
}))
"""


def test_ways_around(scenario: Scenario) -> None:
    """No route, no name server, no raw or packet sockets, no power over the network; not the host's abstract sockets."""
    got = scenario(f"""
server = socket.socket(socket.AF_UNIX)
server.bind(chr(0) + "of-the-host")
server.listen()
with Sandbox(network=Proxy(allow=["*:*"])) as box:
    print(box.run(["python3", "-c", {ATTEMPTS!r}]).check().stdout)
""")
    unreachable = ("OSError 101", "OSError 113")
    assert got.pop("direct") in unreachable and got.pop("names") in unreachable
    assert got.pop("abstract") == "ConnectionRefusedError 111"
    assert "done" not in got.values(), got
