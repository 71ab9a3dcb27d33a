"""Tasks that are submitted together."""

from rewardkit.process_pool.fork_server import Answer
from rewardkit.process_pool.tasks import Batch, Failure


def test_the_last_result_completes_the_batch() -> None:
    """Results arrive in any order; the future completes with the last one and has them in the order of the tasks."""
    batch = Batch(3)
    results = [Answer("a", 0.1), Failure("timeout", ""), Answer("c", 0.2)]
    for index in (2, 0):
        batch.finish(index, results[index])
        assert not batch.future.done()
    batch.finish(1, results[1])
    assert batch.future.result(0) == results


def test_a_batch_that_has_failed_stays_failed() -> None:
    """A result that arrives after the pool has given up changes nothing."""
    batch = Batch(1)
    batch.future.set_exception(ValueError("closed"))
    batch.finish(0, Answer("late", 0.1))
    assert isinstance(batch.future.exception(0), ValueError)
