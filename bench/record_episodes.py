"""Makes the episodes that `lisrt bench --workload rollout` plays: scripted agents at work in real sandboxes.

    python bench/record_episodes.py [IMAGE]

What an agent asks for is in bench/scripted/: a TOML file for each, with a task, the script that makes what it is about, and its
tool calls in order. The script runs here and now; what it makes becomes part of the episode, as a user's files would be. What
came of each call is recorded by lisrt's own tools, in the form of its trajectories, into bench/episodes/. Paths are relative,
numbers are seeded: a replay ends each call as it ended here.
"""

import asyncio
import base64
import gzip
import io
import json
import sys
import tarfile
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from lisrt import AsyncSandbox
from lisrt.agent.tools import TOOLS, Tools
from lisrt.agent.trajectory import TrajectoryWriter

HERE = Path(__file__).resolve().parent


def nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry without what is of this host and this moment."""
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info


async def tree(box: AsyncSandbox) -> bytes:
    """What is in /testbed, as a tar archive that is the same each time."""
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=archive, mode="w") as tar:
        await box.download("/testbed", folder)
        tar.add(folder, "testbed", filter=nobodys)
    return archive.getvalue()


async def record(name: str, script: dict[str, Any], image: str | None) -> None:
    """One episode, over the one that was there."""
    file = HERE / "episodes" / f"{name}.jsonl"
    file.unlink(missing_ok=True)
    with TrajectoryWriter(file) as log:
        async with AsyncSandbox(image) as box:
            (await box.sh(script["setup"])).check()
            files = base64.b64encode(gzip.compress(await tree(box), mtime=0)).decode()
            log.write("start", format=1, task=script["task"], files=files, tools=[one["function"]["name"] for one in TOOLS])
            tools = Tools(box, working_dir="/testbed", command_timeout=60, max_output=8_000)
            for turn, call in enumerate(script["call"], 1):
                arguments = {key: value for key, value in call.items() if key != "tool"}
                if call["tool"] == "execute_bash":
                    arguments["command"] = arguments["command"].strip("\n")
                text = json.dumps(arguments)
                started = time.monotonic()
                seen = await tools.call(call["tool"], text)
                duration = round(time.monotonic() - started, 4)
                log.write(
                    "tool", turn=turn, id=f"call_{turn}", name=call["tool"], arguments=text, observation=seen.text,
                    outcome=seen.outcome, duration=duration, **seen.details,
                )  # fmt: skip
            answer = (await box.read_text("answer.txt")).strip()
        log.write("end", exit_reason="submitted", answer=answer, turns=len(script["call"]))
    if answer != script["answer"]:
        raise SystemExit(f"{name}: the answer is {answer!r}, and should be {script['answer']!r}")
    print(f"{name}: {len(script['call'])} calls, answer {answer!r}")


async def main(image: str | None) -> None:
    for file in sorted((HERE / "scripted").glob("*.toml")):
        await record(file.stem, tomllib.loads(file.read_text()), image)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
