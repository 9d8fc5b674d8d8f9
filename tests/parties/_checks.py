"""Checks in Python that print the same lines as those of _lib.sh."""

import sys
import traceback

_failed = 0


def expect(name, actual, wanted):
    """One check: equal or not."""
    if actual == wanted:
        _ok(name)
    else:
        _fail(name, f"got {str(actual)[:300]!r}, wanted {str(wanted)[:300]!r}")


def expect_that(name, holds, otherwise=""):
    """One check of a condition; `otherwise` says what was seen if it does not hold."""
    if holds:
        _ok(name)
    else:
        _fail(name, str(otherwise)[:300] or "it does not hold")


class part:
    """A group of checks: what it raises is one failed check, and the other groups still run."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None or not issubclass(kind, Exception):
            return False
        _fail(self.name, f"{kind.__name__}: {error}")
        traceback.print_exception(kind, error, trace, limit=4, chain=False)
        return True


def finish():
    sys.exit(1 if _failed else 0)


def _ok(name):
    print(f"ok    {name}")


def _fail(name, why):
    global _failed
    _failed += 1
    print(f"FAIL  {name}: {why}")
