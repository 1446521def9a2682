"""The cffi extension `lisrt.kernel._native`, from the same C that the helper is built from."""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent

ffibuilder = FFI()
ffibuilder.cdef((HERE / "native.cdef.h").read_text())
ffibuilder.set_source(
    "lisrt.kernel._native",
    '#include "native.h"\n#include "outside.h"\n',
    sources=["csrc/fault.c", "csrc/plan.c", "csrc/lift.c", "csrc/trash.c", "csrc/owner.c", "csrc/native.c"],
    include_dirs=["csrc"],
    extra_compile_args=["-std=gnu17", "-O2", "-fvisibility=hidden"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
