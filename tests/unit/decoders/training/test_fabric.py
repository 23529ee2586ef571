"""Lightning's Fabric, imported alone."""

import subprocess
import sys


def test_fabric_brings_no_other_library_along():
    code = (
        "import sys\nfrom percept.decoders.training import fit\n"
        "print({'torchmetrics', 'torchvision', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_library_that_fabric_looks_for_can_be_imported_after_it():
    code = "from percept.decoders.training import fabric\nimport torchmetrics"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
