"""Processes whose time is counted, and that end with the program that started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from measured import ONE_THREAD, end_all, end_of, interrupted_by_signals, run_measured

BARE = [sys.executable, "-I", "-S", "-c"]
BUSY = "import time\nwhile time.process_time() < 0.5: pass"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {BUSY!r}])"
LIMIT = 300  # seconds until something is taken for hanging


def test_a_process_has_one_thread_and_its_log(tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit(3)"
    assert run_measured([*BARE, program], tmp_path / "log").status == 3
    assert end_of(tmp_path / "log") == "1"
    assert set(ONE_THREAD.values()) == {"1"}


@pytest.mark.parametrize("program", [BUSY, pytest.param(PARENT, id="child")])
def test_the_time_is_that_of_the_process_and_its_children(program: str, tmp_path: Path) -> None:
    if program is PARENT and sys.platform == "win32":
        pytest.skip("no times of children")
    before = time.monotonic()
    assert 0.5 <= run_measured([*BARE, program], tmp_path / "log").cpu_seconds <= time.monotonic() - before


def test_the_time_so_far_is_told_while_it_runs(tmp_path: Path) -> None:
    told: list[float] = []
    started: list[psutil.Process] = []
    ended = run_measured([*BARE, BUSY], tmp_path / "log", on_start=started.append, on_look=told.append)
    assert told == sorted(told)
    assert told[-1] <= ended.cpu_seconds + 0.02  # the system counts in hundredths
    assert started[0].pid != os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="a program there gets no signals")
def test_ending_all_asks_what_runs_to_end(tmp_path: Path) -> None:
    answers: list[BaseException] = []

    def run() -> None:
        try:
            run_measured([*BARE, "import time; time.sleep(600)"], tmp_path / "log", on_start=lambda _: begun.set())
        except KeyboardInterrupt as error:
            answers.append(error)

    begun = threading.Event()
    with interrupted_by_signals():
        worker = threading.Thread(target=run)
        worker.start()
        assert begun.wait(LIMIT)
        end_all()
        worker.join(LIMIT)
    assert len(answers) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a program there gets no signals")
def test_sigterm_interrupts_as_ctrl_c_does_and_only_while_entered() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_what_nohup_ignores_stays_ignored() -> None:
    program = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from measured import interrupted_by_signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with interrupted_by_signals(): os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    )
    scripts = Path(__file__).parents[2] / "scripts"
    done = subprocess.run([sys.executable, "-c", program, str(scripts)], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"
