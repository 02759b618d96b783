"""Run a command and append its peak resident memory (bytes) to a file: peak.py FILE COMMAND..."""

import os
import resource
import subprocess
import sys

status = subprocess.run(sys.argv[2:], check=False).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
with os.fdopen(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), "w") as f:
    f.write(f"{peak}\n")
sys.exit(status if status >= 0 else 128 - status)
