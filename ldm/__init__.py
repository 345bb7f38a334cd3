"""Latent diffusion, from the noise schedule to the image.

Importing this package also sets how OpenMP's threads wait for each other. libgomp reads the setting once, when torch is
loaded, so `p2p` and `weights` import this package first.
"""

import os

# By default a waiting thread spins for some milliseconds, 300,000 turns, before it sleeps, and keeps its core from
# other programs. 3,000 turns cost nothing alone, and save a third of the time beside another program: tests/busy.py.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
