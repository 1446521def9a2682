"""What networks cost: creations in turn, without one, with a Proxy and with nat; then as many sandboxes as are asked for fetch a
megabyte each at the same moment, through the one proxy of this process, and through the one uplink.

    python bench/network.py [SANDBOXES]
"""

import random
import re
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from lisrt import Nat, Proxy, Sandbox
from lisrt.nat.hub import own_addresses
from lisrt.uplink import AnyNetwork

ROUNDS = 200
SIZE = 1 << 20
SERVER = f"""if True:
    import http.server, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "{SIZE}")
            self.end_headers()
            self.wfile.write(bytes({SIZE}))
        def log_message(self, *_): pass
    http.server.ThreadingHTTPServer.request_queue_size = 1024
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
"""


def creations(networks: dict[str, AnyNetwork]) -> None:
    """In turn, so that what else the machine does meets them alike."""
    took: dict[str, list[float]] = {name: [] for name in networks}
    order = list(networks.items())
    for _ in range(ROUNDS):
        random.Random(len(took["none"])).shuffle(order)  # the end of one is the next one's burden
        for name, network in order:
            started = time.perf_counter()
            box = Sandbox(network=network)
            took[name].append(time.perf_counter() - started)
            box.run(["true"]).check()
            box.close()
    none = statistics.median(took["none"])
    for name, found in took.items():
        found.sort()
        middle = statistics.median(found)
        p90 = found[len(found) * 9 // 10]
        print(f"create {name:5}: p50 {middle * 1000:.2f} ms, p90 {p90 * 1000:.2f} ms, {middle / none:.3f} times none")


def peak() -> int:
    """KiB of this process at the highest, since `forget`."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def fetches(name: str, rules: AnyNetwork, url: str, count: int) -> None:
    """All at once."""
    command = ["curl", "--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{size_download}"]
    with ExitStack() as stack, ThreadPoolExecutor(count) as threads:
        boxes = [stack.enter_context(Sandbox(network=rules)) for _ in range(count)]
        list(threads.map(lambda box: box.run(["true"]), boxes))  # the threads themselves are not the proxy's
        forget()
        before, started = peak(), time.perf_counter()
        results = list(threads.map(lambda box: box.run([*command, url], timeout=120), boxes))
        took = time.perf_counter() - started
        served = sum(result.stdout == str(SIZE) for result in results)
        grown = (peak() - before) / 1024
        print(f"{count} sandboxes with {name}, 1 MiB each: {served} served in {took:.1f} s; {grown:.1f} MiB more in this process")
        for result in results:
            if result.stdout != str(SIZE):
                print(result.outcome, result.exit_code, result.stdout, result.stderr)
                break


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port, own = int(server.stdout.readline()), own_addresses()[0]
        proxy, nat = Proxy(allow=[f"{own}:{port}"]), Nat(allow=[own])
        creations({"none": "none", "proxy": proxy, "nat": nat})
        for name, network in (("proxy", proxy), ("nat", nat)):
            fetches(name, network, f"http://{own}:{port}/", int(sys.argv[1]) if len(sys.argv) > 1 else 512)
    finally:
        server.kill()
        server.wait()
