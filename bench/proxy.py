"""What a Proxy costs: creations in turn with sandboxes that have no network; then as many sandboxes as are asked for fetch a
megabyte each at the same moment, through the one proxy of this process.

    python bench/proxy.py [SANDBOXES]
"""

import re
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from lisrt import Proxy, Sandbox

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
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
"""


def creations(rules: Proxy) -> None:
    """In turn, so that what else the machine does meets them alike."""
    took: dict[str, list[float]] = {"none": [], "proxy": []}
    for _ in range(ROUNDS):
        for name, found in took.items():
            started = time.perf_counter()
            box = Sandbox(network="none" if name == "none" else rules)
            found.append(time.perf_counter() - started)
            box.run(["true"]).check()
            box.close()
    medians = {name: statistics.median(found) * 1000 for name, found in took.items()}
    none, proxy = medians["none"], medians["proxy"]
    print(f"create: none {none:.2f} ms, proxy {proxy:.2f} ms, {proxy / none:.3f} times")


def peak() -> int:
    """KiB of this process at the highest, since `forget`."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def fetches(rules: Proxy, port: int, count: int) -> None:
    """All at once."""
    command = ["curl", "--silent", "--noproxy", "", "--output", "/dev/null", "--write-out", "%{size_download}"]
    with ExitStack() as stack, ThreadPoolExecutor(count) as threads:
        boxes = [stack.enter_context(Sandbox(network=rules)) for _ in range(count)]
        list(threads.map(lambda box: box.run(["true"]), boxes))  # the threads themselves are not the proxy's
        forget()
        before, started = peak(), time.perf_counter()
        results = list(threads.map(lambda box: box.run([*command, f"http://127.0.0.1:{port}/"], timeout=120), boxes))
        took = time.perf_counter() - started
        served = sum(result.stdout == str(SIZE) for result in results)
        grown = (peak() - before) / 1024
        print(f"{count} sandboxes, 1 MiB each: {served} served in {took:.1f} s; {grown:.1f} MiB more in this process")
        for result in results:
            if result.stdout != str(SIZE):
                print(result.outcome, result.exit_code, result.stdout, result.stderr)
                break


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        chosen = int(server.stdout.readline())
        allowed = Proxy(allow=[f"127.0.0.1:{chosen}"])
        creations(allowed)
        fetches(allowed, chosen, int(sys.argv[1]) if len(sys.argv) > 1 else 512)
    finally:
        server.kill()
        server.wait()
