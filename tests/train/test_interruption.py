"""Signals are noted and put back, and a run that one of them stops has lost nothing."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from forcefield.train.checkpoint import CHECKPOINT, load_checkpoint
from forcefield.train.config import TrainConfig
from forcefield.train.interruption import SIGNALS, Interruption
from forcefield.train.logs import Silent
from forcefield.train.loop import train


class SignalAt(Silent):
    """Sends a signal to this process while a step's end is told."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def progress(self, share: float, seconds: float, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_run_has_saved_its_last_step_and_goes_on(config: TrainConfig, number: int) -> None:
    config = config.model_copy(update={"checkpoint_minutes": 60.0})  # nothing is saved on the way
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(KeyboardInterrupt):
        train(config, watcher=SignalAt(5, number))
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert load_checkpoint(config.output / CHECKPOINT)["counters"]["step"] == 5
    assert train(config).step == 12


def test_the_second_signal_acts_as_it_used_to() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.asked
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()


def test_ignored_signals_and_disabled_ones_stay_as_they_are() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGTERM)
        assert not interruption.asked and signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    handlers = [signal.getsignal(each) for each in SIGNALS]
    with Interruption(enabled=False):
        assert [signal.getsignal(each) for each in SIGNALS] == handlers


def test_other_threads_change_no_handler() -> None:
    seen = []

    def enter() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
