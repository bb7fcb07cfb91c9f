"""What all tests expect of the process that runs them."""

import signal

# A shell that runs the tests in the background has them ignore it, and programs that they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
