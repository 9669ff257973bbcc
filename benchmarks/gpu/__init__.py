"""What is measured on a GPU: `python -m benchmarks.gpu.train`."""

import os

# So that asking whether there is a GPU leaves it free for the stages' own processes.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
