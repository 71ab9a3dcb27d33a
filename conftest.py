"""Settings for the tests of all distributions."""

import signal

# A shell ignores Ctrl-C for what it starts in the background. Tests that send it, and the processes that they start, would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
