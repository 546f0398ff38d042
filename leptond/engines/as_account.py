"""Runs a program as another account: ``python -I -S -X utf8 .../as_account.py ACCOUNT PROGRAM [ARGUMENT]``.

ACCOUNT is JSON, as :func:`leptond.engines.shim.identity.become` takes it. Started by the daemon as root, it
becomes the account before it does anything else, so that nothing of the program runs with the daemon's
rights. Descriptors and environment are passed on. Standard library only, apart from modules of ours that
import no more than that."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # -I and -S leave no path to import from: a bare package leads to our files, and to nothing else
    package = type(sys)("leptond")
    package.__path__ = [str(Path(__file__).resolve().parent.parent)]
    sys.modules["leptond"] = package
    sys.dont_write_bytecode = True

    from leptond.engines.shim import identity

    try:
        identity.become(json.loads(sys.argv[1]))
        os.umask(0o077)
        os.chdir("/")
        os.execve(sys.argv[2], sys.argv[2:], os.environ)
    except (OSError, identity.CannotBecome) as failure:
        sys.stderr.write(f"{sys.argv[2]} cannot run as another account: {failure}\n")
        sys.stderr.flush()
    os._exit(1)
