"""The sound of a recording, copied packet by packet beside an annotated video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import av
import av.error

from siamtrack.errors import VideoError
from siamtrack.utils.files import Closing

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet

    from siamtrack.video.decode import ContainerReader


class Sound(Closing):
    """The main sound of a file, by the times of its pictures.

    Args:
        reader: of the pictures.

    Attributes:
        stream: to make a copy like it.

    Raises:
        VideoError: the times of the pictures are not those of the file.
    """

    def __init__(self, reader: ContainerReader) -> None:
        if not reader.keeps_stamps:
            raise VideoError(
                f"{reader.info.name}: the rate was given, so the sound would not fit the pictures"
            )
        self._container, _ = reader.open_again()
        best = self._container.streams.best("audio")
        self.stream: AudioStream = self._container.streams.audio[0] if best is None else best  # type: ignore[assignment]
        self._origin_s = reader.origin_s
        self._packets: Iterator[Packet[AudioStream]] = iter(())
        self._next: Packet[AudioStream] | None = None
        self._start_s = 0.0
        self._last_s = -math.inf  # begin of the packet given last

    def start(self, time_s: float) -> None:
        """Go to where the pictures begin that the sound is for, in s of their times."""
        self._start_s = self._origin_s + time_s
        # Where it cannot be searched, it is read from the start.
        with suppress(av.error.FFmpegError):
            self._container.seek(int(max(0.0, self._start_s - 0.5) * av.time_base))
        self._packets = self._container.demux(self.stream)
        self._next = next(self._packets, None)

    def until(self, time_s: float) -> Iterator[Packet[AudioStream]]:
        """Packets up to the first that begins after a time, in s from the start.

        Their stamps count from the start.
        """
        while self._last_s <= time_s and self._next is not None and self._next.size:
            packet = self._next
            base = packet.time_base or self.stream.time_base
            if packet.pts is not None and base:
                begins_s = float(packet.pts * base) - self._start_s
                if begins_s >= 0:
                    packet.pts -= round(self._start_s / float(base))
                    packet.dts = packet.pts
                    self._last_s = begins_s
                    yield packet
            try:
                self._next = next(self._packets, None)
            except av.error.FFmpegError:  # Damage ends the sound, not the video.
                self._next = None

    def close(self) -> None:
        """Close the file."""
        self._container.close()
