"""Settings for the tests of all distributions."""

import os
import signal
from contextlib import suppress

# A shell ignores Ctrl-C for what it starts in the background. Tests that send it, and the processes that they start, would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test of a property draws this many examples. REWARDKIT_EXAMPLES=1000 searches longer; hypothesis itself would draw 100.
# A loaded machine is slow, which is no fault of what is tested.
with suppress(ImportError):
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "rewardkit",
        max_examples=int(os.environ.get("REWARDKIT_EXAMPLES", "40")),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("rewardkit")
