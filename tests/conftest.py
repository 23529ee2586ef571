"""For every test: one thread per process."""

import os

# Workers side by side on few cores: threads that wait for each other busily cost three times the time. Set
# before numpy and torch are imported; processes that tests start inherit it.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
