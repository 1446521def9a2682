"""Programs that take more than they may, as Python source."""

MEMORY = {
    "private": "kept = []\nwhile True: kept.append(bytearray(1 << 20))",
    "shared": """
import mmap
kept = []
while True:
    kept.append(mmap.mmap(-1, 1 << 20))
    kept[-1].write(b"x" * (1 << 20))
""",
    "one memory file": "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, b'x' * (1 << 20))",
    "many memory files": "import os\nwhile True: os.write(os.memfd_create('x'), b'x' * (1 << 20))",
    "a first thread that has ended": """
import ctypes, threading, time
def work():
    time.sleep(0.3)
    kept = []
    while True: kept.append(bytearray(1 << 20))
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall(60, 0)
""",
    "copies on write": """
import ctypes, os, time
size = 55 << 20
buffer = ctypes.create_string_buffer(size)
ctypes.memset(buffer, 1, size)
for _ in range(16):
    if os.fork() == 0:
        time.sleep(1)
        ctypes.memset(buffer, 2, size)
        time.sleep(1000)
time.sleep(1000)
""",
    "tmpfs and private": """
import os
try:
    with open("/dev/shm/x", "wb", buffering=0) as file:
        while True: file.write(b"x" * (1 << 20))
except OSError:
    pass
kept = []
while True: kept.append(bytearray(1 << 20))
""",
    "many processes": """
import os, time
for _ in range(60):
    if os.fork() == 0:
        kept = bytearray(4 << 20)
        time.sleep(1000)
time.sleep(1000)
""",
    "orphans": """
import os, time
for _ in range(60):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        kept = bytearray(4 << 20)
        time.sleep(1000)
time.sleep(1000)
""",
    "System V": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
kept = []
while True:
    segment = libc.shmget(0, 1 << 20, 0o1600)
    if segment < 0: break
    address = libc.shmat(segment, None, 0)
    ctypes.memset(address, 1, 1 << 20)
while True: kept.append(bytearray(1 << 20))
""",
    "not dumpable": """
import ctypes
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
kept = []
while True: kept.append(bytearray(1 << 20))
""",
    "mapped file written in private": """
import mmap
with open("file", "wb") as file: file.truncate(1 << 30)
file = open("file", "rb")
kept = mmap.mmap(file.fileno(), 1 << 30, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
for at in range(0, 1 << 30, 4096): kept[at] = 1
""",
}

FORK = ":(){ :|:& };:"

THREADS = """
import threading, time
threads = []
try:
    while True:
        thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
        thread.start()
        threads.append(thread)
except RuntimeError:
    print(len(threads), flush=True)
time.sleep(1000)
"""

FILES = "import os\nos.mkdir('d')\nfor i in range(10**6): open(f'd/{i}', 'w').close()"

DISK = """
import os
i = 0
while True:
    with open(str(i), "wb") as file: file.write(b"x" * (1 << 20))
    i += 1
"""
