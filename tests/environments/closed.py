"""Put into an environment as `sitecustomize`: packages of other environments are not found.

Snakemake appends its own search path to that of the scripts it starts. Its own modules, and what those
import, may come from there; nothing else may.
"""

import sys
import sysconfig
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder

OWN = sysconfig.get_path("purelib")


def is_foreign(path: str) -> bool:
    """Whether a file lies among the packages of another environment."""
    return "/site-packages/" in path and not path.startswith(OWN)


def asked_by_foreign() -> bool:
    """Whether a module of another environment is importing, or asking."""
    frame = sys._getframe(2)
    while frame is not None:
        if is_foreign(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


class Closed(PathFinder):
    """In the place of Python's own finder: what is foreign is not there, for imports and for questions."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Where a module is; None of one of another environment."""
        top = name.partition(".")[0]
        if (
            path is None
            and top != "snakemake"
            and not top.startswith("snakemake_")
            and not asked_by_foreign()
        ):
            path = [place for place in sys.path if not is_foreign(f"{place}/")]
        return PathFinder.find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Packages by their metadata."""
        found = context.path
        if not asked_by_foreign():
            found = [place for place in found if not is_foreign(f"{place}/")]
        return PathFinder.find_distributions(DistributionFinder.Context(name=context.name, path=found))


sys.meta_path = [Closed if finder is PathFinder else finder for finder in sys.meta_path]
