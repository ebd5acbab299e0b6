"""Killed, stopped, interrupted, out of disk: doors end in one line, take their workers along, and go on.

`make test-kills` has forty kills over all doors (tests/kills.py).
"""

import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import clean_process
from kills import cases, survivors, try_door

from videopainter.cli.running import run_door
from videopainter.cli.train import train_branch
from videopainter.errors import InputError
from videopainter.files import WriteError
from videopainter.training.checkpoints import CheckpointFolder
from videopainter.training.tracking.trackers import wandb_mode
from videopainter.training.trainer import Trainer

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_killed_and_gone_on_with(tmp_path):
    case = cases(tmp_path, tmp_path)["make_synthetic"]
    assert try_door("make_synthetic", case, tmp_path / "kills", 3, random.Random(1)) == []


def code_of(main) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        run_door(main)
    return ended.value.code


# ---- Ctrl-C


@pytest.fixture
def ctrl_c():
    """As in a terminal: what was started in the background of a script ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("becomes", [None, RuntimeError("DataLoader worker exited"), ImportError("torch")])
def test_ctrl_c_is_one_line_whatever_libraries_make_of_it(capsys, becomes, ctrl_c):
    def main():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if becomes is not None:
                raise becomes from None
            raise

    assert code_of(main) == 130
    assert capsys.readouterr().err == "interrupted: start the same command again to go on where it was\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("door", ["infer/inpaint.py", "train/cache_latents.py", "evaluate/evaluate.py"])
def test_ctrl_c_while_libraries_load(tmp_path, door):
    """A library that gets it in the middle of its import stands for all."""
    (tmp_path / "transformers.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    path = os.pathsep.join([str(tmp_path), str(REPO / "diffusers/src")])
    command = [sys.executable, str(REPO / door)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("interrupted: ")


def test_a_second_ctrl_c_ends_at_once():
    code = (
        "import signal, time; from videopainter.cli.running import run_door\n"
        "def main():\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    finally: signal.raise_signal(signal.SIGINT); time.sleep(60)\n"
        "run_door(main)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 130


def interrupted_training(flags: list[str], output: str) -> None:
    """Ctrl-C after the checkpoint of step 2; what is said goes to a file."""
    finish = CheckpointFolder.finish

    def and_interrupt(self, *args):
        finish(self, *args)
        signal.raise_signal(signal.SIGINT)

    CheckpointFolder.finish = and_interrupt
    sys.stderr = open(output, "w")  # noqa: SIM115
    run_door(lambda: train_branch(flags))


def test_ctrl_c_in_training_recommends_what_works(flags, tmp_path):
    out = tmp_path / "out"
    process = clean_process(interrupted_training, flags(out), str(tmp_path / "said"))
    process.start()
    process.join(120)
    assert process.exitcode == 130
    last = (tmp_path / "said").read_text().splitlines()[-1]
    assert last == f"interrupted: add --resume_from_checkpoint latest to the command to go on from {out}/checkpoint-2"
    with pytest.raises(InputError, match="--resume_from_checkpoint latest"):
        train_branch(flags(out))
    assert not list(out.glob(".*"))


# ---- full disks


def training_on_a_full_disk(flags: list[str], output: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    sys.stderr = open(output, "w")  # noqa: SIM115
    run_door(lambda: train_branch(flags))


def test_a_full_disk_ends_training_in_one_line(flags, tmp_path):
    out = tmp_path / "out"
    process = clean_process(training_on_a_full_disk, flags(out), str(tmp_path / "said"))
    process.start()
    process.join(120)
    assert process.exitcode == 1
    last = (tmp_path / "said").read_text().splitlines()[-1]
    assert last.startswith(f"error: cannot write {out}/.checkpoint-2.partial: ")
    assert not list(out.glob("*checkpoint*"))


def test_what_cannot_be_written_is_not_a_mistake_of_the_command_line(capsys):
    def main(error):
        raise error

    assert code_of(lambda: main(WriteError("cannot write x: No space left on device"))) == 1
    assert code_of(lambda: main(OSError(28, "No space left on device"))) == 1
    assert code_of(lambda: main(InputError("x"))) == 2
    assert capsys.readouterr().err.count("\n") == 3


# ---- processes

WORKERS = """
import sys, time
from multiprocessing import get_context
from videopainter.data.workers import begin_worker
def work(at_work):
    begin_worker()
    at_work.put(None)
    time.sleep(60)
if __name__ == "__main__":
    context = get_context(sys.argv[1])
    at_work = context.SimpleQueue()
    processes = [context.Process(target=work, args=(at_work,)) for _ in range(3)]
    for process in processes: process.start()
    for _ in processes: at_work.get()
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, method, number):
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    command = [sys.executable, str(script), method]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert len(psutil.Process(process.pid).children(recursive=True)) >= 3
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    assert survivors(process.pid) == []


DOOR = """
import os, sys, time
from videopainter.cli.running import run_door
from videopainter.errors import InputError
def main():
    if sys.argv[1] == "mistake": raise InputError("x: expected 1, got 2")
    if sys.argv[1] == "one": os.environ["RANK"] == "0" and os._exit(3); time.sleep(30)
    if sys.argv[1] == "killed": os.kill(os.getpid(), 9)
    if sys.argv[1] == "wait": os.write(1, b"waits\\n"); time.sleep(60)  # at once: two processes write
    return 0
if __name__ == "__main__": run_door(main)
"""


@pytest.fixture
def launched(tmp_path):
    """`launched(what)`: two processes of a door under torchrun."""
    script = tmp_path / "door.py"
    script.write_text(DOOR)
    launch = [sys.executable, "-m", "videopainter.cli.launch", "torchrun", "--standalone", "--nproc_per_node", "2"]
    return lambda what: [*launch, str(script), what]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        ("mistake", 2, "error: x: expected 1, got 2"),
        ("one", 3, ""),
        ("killed", 137, "error: a process was ended by SIGKILL (for lack of memory?)"),
    ],
    ids=["mistake", "one", "killed"],
)
def test_a_launcher_ends_as_the_door_does(launched, what, code, line):
    done = subprocess.run(launched(what), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.strip()) == (code, line)


def test_ctrl_c_under_a_launcher_is_one_line(launched):
    """A terminal sends it to all processes."""
    process = subprocess.Popen(
        launched("wait"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == process.stdout.readline() == "waits\n"
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said.count("\n"), said[:12]) == (130, 1, "interrupted:")


def test_a_launcher_that_is_killed_takes_its_processes_along(launched):
    process = subprocess.Popen(launched("wait"), stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == process.stdout.readline() == b"waits\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert survivors(process.pid) == []


# ---- what else was a traceback


def test_an_older_checkpoint_of_other_processes(tmp_path):
    """The latest is damaged; the one before was written by two processes with DeepSpeed."""
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        state = folder.begin(step) / "state/sharded"
        state.mkdir(parents=True)
        for rank in (0, 1):
            (state / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
        folder.finish(step, {"step": step, "samples": step})
    (tmp_path / "checkpoint-2/manifest.json").write_text("{")
    trainer = object.__new__(Trainer)
    trainer.checkpoints = folder
    trainer.options = SimpleNamespace(run=SimpleNamespace(resume_from_checkpoint="latest"))
    trainer.accelerator = SimpleNamespace(is_main_process=True, num_processes=1)
    with pytest.raises(InputError, match=r"expected 2 processes.*got 1, in .*checkpoint-1"):
        trainer._resume()


def test_wandb_without_a_key_runs_offline_and_says_so(monkeypatch, tmp_path, capsys):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_mode() == "offline"
    assert capsys.readouterr().err.count("offline") == 1
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode() is None
    assert capsys.readouterr().err == ""
