"""Networks with a way out, tried. No sandbox needs one, so nothing fails for them."""

from __future__ import annotations

import subprocess

from lisrt import settings
from lisrt.doctor.host import Host
from lisrt.doctor.rows import Found, Status
from lisrt.egress.proxy import Proxy
from lisrt.errors import HostError, LisrtError
from lisrt.nat import program
from lisrt.sandbox import Sandbox

_WITHIN = 10.0
_ROUTE = "while read -r device to rest; do [ $to = 00000000 ] && exit 0; done </proc/net/route; exit 1"
_REQUEST = r"GET http://nobody.invalid/ HTTP/1.1\r\nHost: nobody.invalid\r\n\r\n"
_ANSWERS = f"exec 3<>/dev/tcp/127.0.0.1/3128 && printf '{_REQUEST}' >&3 && read -r line <&3 && echo $line"


def uplink(_host: Host) -> Found:
    """Which program carries the traffic of nat."""
    try:
        found = program.find(settings.get("uplink"))
    except (HostError, ValueError) as error:
        return _note(error)
    try:
        said = subprocess.run([found.path, "--version"], capture_output=True, text=True, timeout=_WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Found(Status.NOTE, f"{found.path} can't be started: {error}")
    first = next(iter((said.stdout or said.stderr).splitlines()), "")
    return Found(Status.PASS, found.path if not first or "unknown" in first else f"{found.path}, {first}")


def nat(_host: Host) -> Found:
    """One sandbox with an address, a route and a running uplink."""
    try:
        with Sandbox("host", launcher="native", network="nat") as box:
            if not box.sh(_ROUTE).ok:
                return Found(Status.NOTE, "a sandbox was made, and has no route")
    except LisrtError as error:
        return _note(error)
    return Found(Status.PASS, "a sandbox has a route to all public addresses")


def proxy(_host: Host) -> Found:
    """One sandbox whose programs are answered, with a refusal: nothing is allowed."""
    try:
        with Sandbox("host", network=Proxy()) as box:
            answer = box.sh(_ANSWERS)
    except LisrtError as error:
        return _note(error)
    if " 403 " not in answer.stdout:
        return Found(Status.NOTE, f"a sandbox was made, and its proxy does not answer: {answer.stderr.strip()}")
    return Found(Status.PASS, "a sandbox was made, and its proxy answers")


def _note(error: Exception) -> Found:
    fix = error.fix if isinstance(error, HostError) else ""
    return Found(Status.NOTE, f"can't be used: {error}".removesuffix(f". {fix}"), fix)
