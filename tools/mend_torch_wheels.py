"""Make torch's companion wheels harmless beside a CPU build of torch; does nothing where they load.

The registry's torchvision, torchaudio and torchcodec wheels are linked against CUDA.

* torchvision dies on a missing operator schema when imported. Declaring the two schemas first is
  enough for image processors, which never call them. vLLM inspects models in fresh interpreters, so
  the declaration is an import hook that a `.pth` file installs at interpreter start.
* torchaudio and torchcodec (needed by vLLM's audio models only) make transformers' import fail as
  long as they are installed and cannot load, so they are uninstalled.

    .venv/bin/python tools/mend_torch_wheels.py
"""

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

HOOK = '''"""Declares torchvision's operator schemas just before torchvision is first imported."""
import importlib.abc
import importlib.machinery
import sys

_keep = []


class _DeclareFirst(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        import torch

        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
        _keep.append(library)
        return None


sys.meta_path.insert(0, _DeclareFirst())
'''


def loads(module: str) -> bool:
    """Whether a fresh interpreter can import `module`."""
    command = [sys.executable, "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main() -> None:
    """Uninstall or mend what does not load; exits with a message where that is not enough."""
    for module in ("torchaudio", "torchcodec"):
        if importlib.util.find_spec(module) and not loads(module):
            subprocess.run([sys.executable, "-m", "pip", "uninstall", "-qy", module], check=True)
            print(f"{module}: uninstalled, it cannot load beside this torch")
    if loads("torchvision"):
        return
    site = Path(sysconfig.get_paths()["purelib"])
    (site / "_declare_torchvision_ops.py").write_text(HOOK)
    (site / "declare_torchvision_ops.pth").write_text("import _declare_torchvision_ops\n")
    if not loads("torchvision"):
        sys.exit("torchvision does not load beside this torch; install a matching build of both")
    print("torchvision: operator schemas are declared at start-up (CPU build of torch)")


if __name__ == "__main__":
    main()
