"""Many agent episodes at once in one process: `python bench/episodes_at_once.py [EPISODES [TURNS [LATENCY]]]`.

A scripted model server, a process of its own, answers each request after LATENCY seconds (0.05) with a command to run, and the
last one with `submit`. Reported are the throughput beside what the latency alone would allow, beside what the same sandboxes and
scripts cost in C on the same machine a moment later (the floor; the second figure adds the scripted server's CPU, as that is on
the same cores), who used the CPU, and the memory of this process.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import time

from lisrt.agent import Agent, Batch, ExitReason, Model, Task
from lisrt.agent.batch import descriptors_for
from lisrt.bench.floor import Floor
from lisrt.kernel import procfs

SCRIPT = "echo work >> notes"

SERVER = r"""
import asyncio, json, sys
turns, latency = int(sys.argv[1]), float(sys.argv[2])
def body(message):
    usage = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}
    text = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": usage,
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text
def call(name, arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return body({"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]})
WORK, LAST = call("execute_bash", {"command": sys.argv[3]}), call("submit", {})
class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data, self.need = transport, bytearray(), None
    def data_received(self, data):
        self.data += data
        if self.need is None:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.data[:end]).lower()
            self.need = end + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self.data) >= self.need:
            last = self.data.count(b'"assistant"') >= turns - 1
            self.data, self.need = bytearray(), None
            asyncio.get_running_loop().call_later(latency, self.transport.write, LAST if last else WORK)
async def main():
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


def cpu(who: int) -> float:
    """User and system seconds."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def resident() -> int:
    one = procfs.process(os.getpid())
    return one.resident if one else 0


def busy() -> float:
    """CPU seconds of the whole machine that were not idle."""
    with open("/proc/stat", encoding="ascii") as lines:
        fields = [int(word) for word in lines.readline().split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


async def run(url: str, episodes: int) -> tuple[list[ExitReason], float, int, int]:
    """How each ended, the seconds it took, and the most memory and open files of this process while they ran."""
    agent = Agent(Model("m", url, retries=0))
    tasks = (Task(f"task {number}") for number in range(episodes))
    most = files = 0

    async def watch() -> None:
        nonlocal most, files
        while True:
            most, files = max(most, resident()), max(files, len(os.listdir("/proc/self/fd")))
            await asyncio.sleep(0.05)

    watcher = asyncio.create_task(watch())
    started = time.perf_counter()
    reasons = [result.episode.exit_reason async for result in Batch(agent, tasks, concurrency=episodes)]
    took = time.perf_counter() - started
    watcher.cancel()
    return reasons, took, most, files


def main(episodes: int, turns: int, latency: float) -> None:
    """Runs them, and prints what came of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = descriptors_for(episodes)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(turns), str(latency), SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin and server.stdout
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    try:
        asyncio.run(run(url, 2))  # imports, the spawner, the image
        before, own, all_of_it = resident(), cpu(resource.RUSAGE_SELF), busy()
        reasons, took, most, files = asyncio.run(run(url, episodes))
        own, all_of_it = cpu(resource.RUSAGE_SELF) - own, busy() - all_of_it
    finally:
        server.stdin.close()
        server.wait()
    of_server = cpu(resource.RUSAGE_CHILDREN)
    with Floor() as floor:
        times = floor.many(min(episodes, 512), 64, turns - 1, SCRIPT)
    scale = episodes / min(episodes, 512)
    in_c = scale * sum(times[name].wall for name in ("create", "exec", "destroy"))
    ideal = turns * latency
    cores = len(os.sched_getaffinity(0))
    with_server = in_c + of_server / cores
    print(json.dumps({
        "episodes": episodes, "turns": turns, "latency": latency, "cpus": cores,
        "ended": {reason: reasons.count(reason) for reason in sorted(set(reasons))}, "seconds": took,
        "by latency alone": ideal, "share of that": ideal / took,
        "sandboxes and scripts in C": in_c, "share of the larger of the two": max(ideal, in_c) / took,
        "in C, and the server's CPU": with_server, "share of that, or of the latency": max(ideal, with_server) / took,
        "turns a second": episodes * turns / took,
        "CPU": {"this process": own, "server": of_server, "machine": all_of_it, "of what there is": all_of_it / took / cores},
        "CPU of this process for a turn, ms": 1000 * own / episodes / turns,
        "memory of this process for an episode, KiB": (most - before) / episodes / 1024,
        "open files for an episode": files / episodes,
    }, indent=1))  # fmt: skip
    assert set(reasons) == {ExitReason.SUBMITTED}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        int(arguments[0]) if arguments else 512,
        int(arguments[1]) if len(arguments) > 1 else 10,
        float(arguments[2]) if len(arguments) > 2 else 0.05,
    )
