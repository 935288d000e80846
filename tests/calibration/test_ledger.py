"""The ledger: time belongs to the work that was told of last."""

from reuse_compiler.calibration.ledger import Ledger


def test_the_time_until_the_next_call_belongs_to_the_work_that_was_told_of() -> None:
    now, told = [0.0], []
    ledger = Ledger(lambda *work: told.append(work), clock=lambda: now[0])
    now[0] = 1.0  # before the first call nothing is known
    ledger("measuring", 0, 2)
    now[0] = 4.0
    ledger("trial 1: fitting", 0, 1)
    now[0] = 6.0
    ledger("measuring", 1, 2)
    now[0] = 7.0
    ledger("trial 12: fitting", 1, 1)
    now[0] = 7.5
    assert ledger.seconds() == {"measuring": 4.0, "trial: fitting": 2.5}
    assert told[0] == ("measuring", 0, 2) and told[-1] == ("trial 12: fitting", 1, 1)
    now[0] = 8.0
    assert ledger.seconds()["trial: fitting"] == 3.0
