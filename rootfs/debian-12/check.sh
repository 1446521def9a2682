#!/bin/bash
# Proves the built image: run in a sandbox of it, without a network.
set -euo pipefail

python3 - << 'END'
import chardet, mpmath, numpy, scipy.optimize, sympy
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

x = sympy.symbols("x")
assert sympy.integrate(2 * x, (x, 0, 3)) == 9
assert abs(scipy.optimize.brentq(lambda v: v * v - 2, 0, 2) - 2**0.5) < 1e-9
assert numpy.linalg.det(numpy.eye(3)) == 1.0
assert mpmath.mpf(1) / 3 != 0 and chardet.detect(b"plain")["encoding"] == "ascii"
plt.plot([1, 2, 3])
plt.savefig("/tmp/plot.png")
assert open("/tmp/plot.png", "rb").read(8) == b"\x89PNG\r\n\x1a\n"
END
ipython --version > /dev/null
rm /tmp/plot.png
python3 -m pip check
