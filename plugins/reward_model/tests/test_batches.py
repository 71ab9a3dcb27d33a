from hypothesis import given
from hypothesis import strategies as st
from rewardkit_reward_model.batches import by_length


def test_like_lengths_go_together():
    """5 and 5 fit into 10 tokens, 3, 3 and 2 into 9, and 12 is alone."""
    assert by_length([5, 3, 12, 5, 3, 2], 10) == [[2], [0, 3], [1, 4, 5]]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 100))
def test_every_sequence_is_in_one_batch(lengths, most):
    """No sequence is lost or repeated, and no batch of several exceeds the limit with its padding."""
    batches = by_length(lengths, most)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most for batch in batches)
