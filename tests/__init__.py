"""The tests; what is set here holds before anything else is imported."""

import atexit
import os
import shutil
import tempfile

# Command lines fold what they say to the width of the terminal, in which tests look for sentences.
os.environ["COLUMNS"] = "400"
# Processes that test beside each other do not count or delete one another's files.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="studio-tests-")
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
