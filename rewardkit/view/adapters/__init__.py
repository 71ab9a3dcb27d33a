"""One module for each kind of file: it reads rows of that kind as scored rows of rewardkit.

A scored row is a dict with ``prompt``, ``completion`` (text or chat messages), ``reward``, and where known ``group``, ``step``,
``num_tokens``, ``reward_status`` and ``components``; all other entries are fields of the row.
"""
