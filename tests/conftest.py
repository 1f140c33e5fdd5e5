"""One thread per test process: the tests run side by side, and the same bits come out on any number of cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
