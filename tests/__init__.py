"""The tests; what is set here holds before anything else is imported."""

import atexit
import os
import shutil
import tempfile

# Command lines fold what they say to the width of the terminal, in which tests look for sentences.
os.environ["COLUMNS"] = "400"
# Processes that test beside each other do not count or delete one another's files.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="studio-tests-")
# Pictures are compared with those of version 0.2 bit for bit, as only PyTorch draws them; the tests
# of graphs ask for graphs. What a machine was found to be fastest in is not for tests to keep.
os.environ["STUDIO_GRAPHS"] = "0"
os.environ["STUDIO_CACHE"] = os.environ["GRADIO_TEMP_DIR"]
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
