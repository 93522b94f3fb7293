"""Stops trainings in the middle, as a user does."""

import signal

from aligndraw.cli.train.progress import Progress


def stop_at(monkeypatch, number, kind=signal.SIGINT, times=1):
    """Sends a signal while update `number`, from 1, is reported."""
    report = Progress.on_update

    def stopping(self, update):
        report(self, update)
        if update.index + 1 == number:
            for _ in range(times):
                signal.raise_signal(kind)

    monkeypatch.setattr(Progress, "on_update", stopping)
