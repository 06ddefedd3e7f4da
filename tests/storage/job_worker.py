"""The worker with the tests' handlers: `python -m tests.storage.job_worker --job ID`, started as the real one is."""

import sys

from storage.runner import LocalRunner
from storage.settings import get_settings
from storage.worker import main

COMMAND = (sys.executable, "-m", "tests.storage.job_worker")
HANDLERS = dict.fromkeys(("import", "train", "score", "inspect", "describe", "gain"), "tests.storage.job_handlers:run")

if __name__ == "__main__":
    settings = get_settings()
    sys.exit(main(handlers=HANDLERS, settings=settings, runner=LocalRunner(settings, command=COMMAND)))
