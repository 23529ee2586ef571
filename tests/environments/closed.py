"""Put into an environment as `sitecustomize`: packages of other environments are refused.

Snakemake appends its own search path to that of the scripts it starts. Its own modules, and what those
import, may come from there; nothing else may.
"""

import sys
import sysconfig
from importlib.machinery import ModuleSpec, PathFinder

OWN = sysconfig.get_path("purelib")


def is_foreign(path):
    """Whether a file lies among the packages of another environment."""
    return "/site-packages/" in path and not path.startswith(OWN)


def asked_by_foreign():
    """Whether a module of another environment is importing."""
    frame = sys._getframe(2)
    while frame is not None:
        if is_foreign(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


class Closed:
    """Finder that comes first, and refuses."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Nothing, so that the others look for it; or the error of a package that is not installed."""
        top = name.partition(".")[0]
        if path is not None or top == "snakemake" or top.startswith("snakemake_"):
            return None
        spec = PathFinder.find_spec(name)
        places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or [])]
        if any(is_foreign(f"{place}/") for place in places) and not asked_by_foreign():
            raise ModuleNotFoundError(f"No module named {name!r} in the environment {OWN}", name=name)
        return None


sys.meta_path.insert(0, Closed)
