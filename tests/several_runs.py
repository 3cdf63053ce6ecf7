"""What torchrun starts in tests: the command lines of a JSON file one after another, in processes that stay together.

Ends with the first exit code that is not 0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pacos.cli.main import main

if __name__ == "__main__":
    for arguments in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        if code := main(arguments):
            sys.exit(code)
