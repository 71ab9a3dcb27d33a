"""The README's example runs as it stands."""

import re

from sandbox_support import REPOSITORY, opened


def test_the_first_example():
    """The block at the top opens a sandbox, runs, calls, splits and judges."""
    opened("auto", slots=1).close()
    text = (REPOSITORY / "sandbox/README.md").read_text()
    exec(compile(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], "README.md", "exec"), {})  # noqa: S102
