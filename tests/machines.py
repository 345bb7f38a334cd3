"""Other processors, as torch's libraries can be told to compute for them: are equal rows equal there, and how far from
this processor's is an edit?

    python tests/machines.py

runs the tests marked `machine` on each, and samples the edit of the first example in docs/editing.md.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
# ATen's, oneDNN's and MKL's settings; of MKL's, AMD's processors heed only the second
MACHINES = {
    "this one": {"MKL_CBWR": ""},  # as users have it; the tests by themselves ask MKL for more
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2,STRICT",  # or, on Intel's, products of equal rows depend on how many rows there are
    },
    "SSE4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "other convolutions": {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": ""},
}
# The bounds in docs/reproducibility.md of an edit on another processor. After 30 steps 1.7e-5 was the most, |z| <= 3.8:
# float32 rounds each to 2e-7, and every step goes on from what the last one rounded. A byte of the picture differs
# where a channel lies within as little of the middle between two grey levels.
LATENT, GREY = 1e-4, 1
EDIT = """
import sys
import numpy as np
import weights.load as weights
from p2p.algorithm import PromptToPrompt
from p2p.alpha import Alpha
from p2p.edits import Swap

model = weights.load("stickers")
cat, dog = (f"a photo of a {animal} on the beach" for animal in ("cat", "dog"))
*_, last = PromptToPrompt(model, cat, (dog,), (Swap("cat", "dog", Alpha(tau=0.2)),)).denoise(seed=7, steps=30)
np.savez(sys.argv[1], z_0=last.z_t.numpy(), pictures=model.decode(last.z_t))
"""


def on(machine: str, *command: str) -> subprocess.CompletedProcess:
    """Run Python there, and keep what it prints. Shapes are those of this processor, and not checked again."""
    command, env = [sys.executable, *command], os.environ | MACHINES[machine] | {"JAXTYPING_DISABLE": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def sampled(machine: str, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The edit's latents and its pictures' bytes, by way of a file."""
    on(machine, "-c", EDIT, str(file)).check_returncode()
    with np.load(file) as edit:
        return edit["z_0"], edit["pictures"].astype(int)


def main() -> None:
    # only their files: to collect all tests takes longer than to run these
    marked = [str(path) for path in ROOT.glob("tests/**/test_*.py") if "pytest.mark.machine" in path.read_text("utf-8")]
    far, failed = [], []
    # two at a time: much of each, imports above all, keeps one core busy
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        first = pool.submit(sampled, "this one", Path(folder, "first.npz"))
        edits = {machine: pool.submit(sampled, machine, Path(folder, f"{machine}.npz")) for machine in MACHINES}
        tests = {machine: pool.submit(on, machine, "-m", "pytest", "-m", "machine", *marked) for machine in MACHINES}
        z_0, pictures = first.result()
        for machine, edit in edits.items():
            other, others = edit.result()
            latent, grey = abs(other - z_0).max(), abs(others - pictures)
            print(
                f"{machine}: latents within {latent:.1e} of {abs(z_0).max():.1f}; "
                f"{np.count_nonzero(grey)} of {grey.size} bytes of the pictures by {grey.max()}",
                flush=True,
            )
            if latent > (LATENT if machine != "this one" else 0) or grey.max() > GREY:
                far.append(machine)
        for machine, test in tests.items():
            print(f"{machine}: {test.result().stdout.strip()}", flush=True)
            failed += [machine] * bool(test.result().returncode)  # pytest's is 5 if it finds no test
    if far:
        print(f"farther than docs/reproducibility.md promises: {', '.join(far)}")
    if failed:
        print(f"tests failed: {', '.join(failed)}")
    sys.exit(bool(far or failed))


if __name__ == "__main__":
    main()
