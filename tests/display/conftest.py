"""A virtual display with a real keyboard and mouse, for programs in processes of their own."""

from __future__ import annotations

import ctypes
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

NEEDED = ("Xvfb", "xdotool")
PATIENCE_S = 300
"""Every wait ends with its condition; this only bounds the wait for one that never comes.

A busy virtual machine has been seen to leave a process without its CPU for minutes.
"""


class Desk:
    """One X server and what a person does to it."""

    def __init__(self, display: str) -> None:
        self.environment = {**os.environ, "DISPLAY": display}
        self.environment.pop("WAYLAND_DISPLAY", None)

    def do(self, *arguments: object) -> str:
        """Run xdotool; returns what it prints."""
        done = subprocess.run(
            ["xdotool", *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        return done.stdout.strip()

    def find_window(self, title: str) -> int:
        """Wait for a window, and give it the keyboard."""
        window = int(self.do("search", "--sync", "--onlyvisible", "--name", title).split()[0])
        self.do("windowfocus", "--sync", window)
        return window

    def find_listening_window(self, program: Program, title: str) -> int:
        """Wait for a window of `siamtrack track --debug` that takes keys and clicks.

        It is on the screen before that, and OpenCV drops what comes while it opens it: a key
        without a meaning is typed until it is told.
        """
        window = self.find_window(title)
        while True:
            self.do("key", "x")
            with suppress(TimeoutError):
                program.read_to("Key(name='x')", patience_s=5)
                return window

    def drag(
        self, program: Program, window: int, start: tuple[int, int], end: tuple[int, int]
    ) -> list[str]:
        """Press the left button at `start` and let it go at `end`; returns what is said of it.

        Nobody is as fast as xdotool: without a pause after the press Qt loses the release at times.
        """
        middle = ((start[0] + end[0]) // 2, (start[1] + end[1]) // 2)
        move = ("mousemove", "--window", window)
        self.do(*move, *start, "mousedown", 1)
        told = program.read_to("'down'", '"down"')
        self.do(*move, *middle, *move, *end, "mouseup", 1)
        return [*told, *program.read_to("'up'", '"up"')]

    def press(self, program: Program, key: str, *told: str) -> list[str]:
        """Type a key, by its X name, until the program says one of `told`; returns what it said.

        Of two keys that it finds at once OpenCV gives the last one. A slow answer is waited for:
        the same key again may undo what it did.
        """
        for _ in range(3):
            self.do("key", key)
            with suppress(TimeoutError):
                return program.read_to(*told, patience_s=PATIENCE_S / 3)
        raise AssertionError(f"{key} was pressed three times without an answer: {told}")

    def ask_to_close(self, window: int) -> None:
        """What a window manager does when the cross in the title bar is clicked."""
        x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        display = ctypes.c_void_p(x11.XOpenDisplay(self.environment["DISPLAY"].encode()))

        class ClientMessage(ctypes.Structure):
            _fields_ = (
                ("type", ctypes.c_int),
                ("serial", ctypes.c_ulong),
                ("send_event", ctypes.c_int),
                ("display", ctypes.c_void_p),
                ("window", ctypes.c_ulong),
                ("message_type", ctypes.c_ulong),
                ("format", ctypes.c_int),
                ("data", ctypes.c_long * 5),
                ("rest_of_the_union", ctypes.c_long * 24),
            )

        protocols = x11.XInternAtom(display, b"WM_PROTOCOLS", 0)
        message = ClientMessage(type=33, window=window, message_type=protocols, format=32)
        message.data[0] = x11.XInternAtom(display, b"WM_DELETE_WINDOW", 0)
        x11.XSendEvent(display, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(message))
        x11.XCloseDisplay(display)


class Program:
    """A Python program on the desk; what it prints and logs is read line by line."""

    def __init__(self, desk: Desk, arguments: list[str], folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", *arguments],
            cwd=folder,
            env={**desk.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # None stands for the end of the output.
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def _line(self, patience_s: float) -> str | None:
        try:
            return self._lines.get(timeout=patience_s)
        except queue.Empty:
            raise TimeoutError(f"nothing was said for {patience_s} s") from None

    def read_to(self, *texts: str, patience_s: float = PATIENCE_S) -> list[str]:
        """Wait for a line with one of `texts`; returns the lines up to it and with it."""
        read: list[str] = []
        while True:
            try:
                line = self._line(patience_s)
            except TimeoutError as error:
                if patience_s < PATIENCE_S:
                    raise
                raise TimeoutError(f"{error} after {read}; {self._dump()}") from None
            if line is None:
                break
            read.append(line)
            if any(text in line for text in texts):
                return read
        raise AssertionError(f"ended without saying {texts}: {read}")

    def _dump(self) -> str:
        """What a silent program does: CPU seconds until now, and where it is. It ends by this."""
        with suppress(OSError):
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            self._process.send_signal(signal.SIGABRT)  # told by faulthandler
            return f"it has used {cpu_s:.1f} s of CPU and is {fields[0]} at {self.end()[1]}"
        return "it is gone"

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end; returns its exit code and the lines not read before."""
        read: list[str] = []
        while (line := self._line(PATIENCE_S)) is not None:
            read.append(line)
        return self._process.wait(PATIENCE_S), read

    def stop(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture(scope="session")
def desk() -> Iterator[Desk]:
    """A display of 1280x800 px that nobody sees."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (apt-get install xvfb xdotool)")
    reader, writer = os.pipe()
    # Without -noreset the server restarts, deaf for a moment, whenever its last program ends.
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x800x24", "-noreset"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as answer:
            # The server writes its number when it is ready, and closes the pipe when it fails.
            number = answer.readline().strip()
        if not number:
            pytest.skip("Xvfb does not start here")
        yield Desk(f":{number}")
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def start(desk: Desk, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start Python programs on the desk, in `tmp_path`."""
    programs: list[Program] = []

    def run(*arguments: str) -> Program:
        programs.append(Program(desk, list(arguments), tmp_path))
        return programs[-1]

    yield run
    for program in programs:
        program.stop()
