"""Run by test_data.py in a process that is killed: extracts the photographs of a folder, slowly.

    interrupted.py CACHE IMAGES [fsync|replace|write_bytes COUNT]

With the last two it kills itself where that function is called for the COUNTth time, `write_bytes` in the middle.
"""

import hashlib
import itertools
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from glied.data.features import FeatureCache
from glied.scene import Regions


class Slow:
    """Regions that depend on the photograph's pixels alone, and their number too."""

    name, feature_dim = "slow-1", 4000

    def find_regions(self, image):
        time.sleep(0.01)
        seed = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:4], "big")
        random = np.random.default_rng(seed)
        n = 1 + seed % 5
        low = random.uniform(0, 10, (n, 2)).astype(np.float32)
        boxes = np.concatenate([low, low + 5], 1)
        return Regions(boxes, random.normal(size=(n, 4000)).astype(np.float32), image.size, self.name)


def extract(folder: Path, images: Path) -> tuple[FeatureCache, dict[Path, str]]:
    FeatureCache.SHARD = 4
    cache = FeatureCache(folder, Slow())
    keys, problems = cache.extract(sorted(images.iterdir()), progress=False)
    assert not problems
    return cache, keys


def kill_self_at(name: str, count: int) -> None:
    holder = Path if name == "write_bytes" else os
    original, calls = getattr(holder, name), itertools.count(1)

    def counted(*args, **options):
        if next(calls) == count:
            if name == "write_bytes":
                original(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)

    setattr(holder, name, counted)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        kill_self_at(sys.argv[3], int(sys.argv[4]))
    print("ready", flush=True)
    extract(Path(sys.argv[1]), Path(sys.argv[2]))
