"""Work handed to several threads comes back in order, and torch gets its threads back."""

import threading

import pytest
import torch

from nbkit.core.device import side_by_side, spread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_order_is_kept_and_torch_runs_on_one_thread_in_each(two_threads):
    seen = side_by_side(lambda n: (n, torch.get_num_threads()), range(40))
    assert seen == [(n, 1) for n in range(40)]
    assert torch.get_num_threads() == 2


def test_two_items_really_run_at_once(two_threads):
    meeting = threading.Barrier(2, timeout=60)
    assert sorted(side_by_side(lambda n: meeting.wait() * 0 + n, range(2))) == [0, 1]


def test_an_error_reaches_the_caller_and_threads_are_given_back(two_threads):
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 // n, range(3))
    assert torch.get_num_threads() == 2


def test_work_is_spread_over_a_cpu_and_taken_in_turn_elsewhere(two_threads):
    def where(kind: str) -> set[int]:
        return set(spread(lambda n: threading.get_ident(), range(4), torch.device(kind)))

    assert where("meta") == {threading.get_ident()} and threading.get_ident() not in where("cpu")
