"""Latent diffusion, from the schedule to the picture.

How threads wait is set here, since libgomp reads it once, when torch is loaded, and whatever of ours is run comes past
here before that: `p2p` and `weights` import this too.
"""

import os

# A thread that is done first turns in place for some milliseconds, 300,000 turns, before it sleeps; another program on
# the same cores waits for as long. So few cost nothing alone and take a third off the time beside it: tests/busy.py.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
