"""What a person sees while a simulation runs: a live bar, plain lines, or nothing."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

LINE_INTERVAL_S = 10.0
"""Seconds between two lines where standard error is not a terminal."""

REFRESH_S = 1.0
"""Seconds between two updates of the bar."""

_log = logging.getLogger("nmdasim")


def note(text: str) -> None:
    """Say a fall-back out loud: a warning of the logger ``nmdasim``, by default on stderr."""
    _log.warning("%s", text)


class Display:
    """Progress of one simulation on standard error; the caller reports about once a second."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Progress | None = None
        self._stage = ""
        self._total_ps = 0.0
        self._start_ps = 0.0
        self._start_s = 0.0
        self._done_ps = 0.0
        self._drawn_s = 0.0

    def say(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def stage(self, name: str, *, total_ps: float, done_ps: float = 0.0) -> Iterator[None]:
        """Show one stage while the ``with`` lasts.

        Parameters
        ----------
        name : str
            What is going on, in a few words.
        total_ps, done_ps : float
            Length of the stage and how much of it an earlier start did, in ps.
        """
        self._stage, self._total_ps = name, total_ps
        self._start_ps = self._done_ps = done_ps
        self._start_s = self._drawn_s = time.perf_counter()
        console = Console(stderr=True)
        if not (self._shown and console.is_terminal):
            try:
                yield
            finally:
                self._draw(time.perf_counter())
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
        )
        # A refreshing thread would take time from the dynamics on a small machine.
        with Progress(*columns, console=console, auto_refresh=False) as self._bar:
            task = self._bar.add_task(name, total=total_ps, speed="")
            self._bar.update(task, completed=done_ps)
            try:
                yield
            finally:
                self._draw(time.perf_counter())
                self._bar = None

    def update(self, done_ps: float) -> None:
        """Report how much of the stage is done, in ps; drawn only every second or so."""
        if not self._shown:
            return
        self._done_ps = done_ps
        now = time.perf_counter()
        if now - self._drawn_s >= (LINE_INTERVAL_S if self._bar is None else REFRESH_S):
            self._draw(now)

    def _draw(self, now: float) -> None:
        self._drawn_s = now
        speed = self._speed(self._done_ps, now)
        if self._bar is None:
            share = self._done_ps / self._total_ps
            self.say(f"{self._stage}: {share:.0%}" + (f", {speed}" if speed else ""))
        else:
            self._bar.update(self._bar.task_ids[0], completed=self._done_ps, speed=speed)
            self._bar.refresh()

    def _speed(self, done_ps: float, now: float) -> str:
        rate = (done_ps - self._start_ps) / max(now - self._start_s, 1e-9)
        if rate <= 0:
            return ""
        left = timedelta(seconds=round(max(self._total_ps - done_ps, 0) / rate))
        return f"{rate * 86.4:.3g} ns/day, {left} left"
