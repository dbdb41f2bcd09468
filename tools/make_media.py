"""Make the demo's picture, melody and clip anew: `python tools/make_media.py`, with numpy, Pillow and ffmpeg at hand.

Rule 1: everything is drawn and played here, from numbers: nothing is anyone else's.
Rule 2: together they stay below 1.5 MB; the clip is long enough in bytes for a browser to ask for it in parts.
"""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MEDIA: Final = Path(__file__).parent.parent / "trioflow" / "demo" / "media"
Array = np.ndarray[Any, np.dtype[np.float64]]

NIGHT: Final = np.array([22, 30, 66])
DUSK: Final = np.array([226, 112, 92])
GLOW: Final = np.array([255, 205, 130])
SEA: Final = np.array([18, 60, 84])


def mixed(first: Array, second: Array, part: Array) -> Array:
    part = np.clip(part, 0, 1)[..., None]
    return first * (1 - part) + second * part


def noise(rng: np.random.Generator, length: int, steps: int) -> Array:
    """Return a smooth random line between -1 and 1."""
    knots = rng.uniform(-1, 1, steps + 3)
    at = np.linspace(0, steps, length)
    part = at % 1
    smooth = part * part * (3 - 2 * part)
    low = at.astype(int)
    return np.asarray(knots[low] * (1 - smooth) + knots[low + 1] * smooth)


def landscape(width: int, height: int) -> Array:
    """Draw a dusk: sky and stars, a sun, five ridges one behind the other, water that mirrors them."""
    rng = np.random.default_rng(20)
    y, x = np.mgrid[0:height, 0:width] / height
    horizon, sun_x, sun_y = 0.64, 0.62 * width / height, 0.5
    sky = mixed(mixed(NIGHT, DUSK, y / 0.5), GLOW, (y - 0.36) / 0.3)
    far = np.hypot(x - sun_x, y - sun_y)
    sky = mixed(sky, GLOW, 0.75 * np.exp(-(far**2) / 0.03))
    sky = mixed(sky, np.array([255, 247, 222]), (0.062 - far) * height / 2)
    for _ in range(260):
        row, column = int(height * 0.42 * rng.random() ** 1.6), rng.integers(0, width - 1)
        sky[row, column : column + 2] += (255 - sky[row, column]) * rng.uniform(0.3, 0.9) * (1 - row / (0.45 * height))
    for i in range(5):
        rough = sum(noise(rng, width, 3 * 2**k + i) / 2**k for k in range(7))
        line = horizon - 0.135 + 0.028 * i - (0.075 - 0.009 * i) * rough / 1.4
        colour = mixed(mixed(NIGHT, DUSK, np.array(0.62 - 0.13 * i)), GLOW, np.array(0.22 - 0.05 * i))
        mist = np.clip((y - line) / 0.16, 0, 1) * (0.36 - 0.05 * i)
        sky = np.where((y > line)[..., None], mixed(colour, GLOW, mist), sky)
    top = int(horizon * height)
    rows = np.arange(height - top)
    depth = rows / (height - top)
    ripple = 0.0022 + 0.022 * depth
    shift = np.sin(rows * 1.9) * 0.6 + np.sin(rows * 0.63 + 2) + noise(rng, len(rows), len(rows) // 2) * 1.4
    source = np.clip(top - 1 - rows * 1.25 - shift * ripple * height * 0.5, 0, top - 1).astype(int)
    water = mixed(sky[source], SEA, (0.3 + 0.35 * depth)[:, None] * np.ones(width))
    glints = (rng.random((height - top, width)) < 0.05) * np.exp(
        -((x[top:] - sun_x) ** 2) / (0.004 + 0.03 * depth[:, None])
    )
    for reach in range(1, 9):  # a glint is a short level stroke
        glints = np.maximum(glints, np.roll(glints, reach, 1) * 0.93)
    sky[top:] = mixed(water, np.array([255, 236, 190]), glints * 0.85)
    return np.clip(sky + rng.normal(0, 2.2, sky.shape[:2])[..., None], 0, 255)


def make_picture(path: Path) -> None:
    Image.fromarray(landscape(1280, 800).astype(np.uint8)).save(path, quality=95, method=6)


RATE: Final = 32000
BEAT: Final = 0.42
# One note a beat and what it rests on, in half tones above A3; a tune in A minor that ends where it began.
TUNE: Final = (
    "0 7 12 10 7 8 7 3 5 8 12 8 7 5 3 2 0 7 12 15 14 12 10 8 7 12 11 8 7 5 3 2 0 3 7 12 8 7 5 3 2 5 8 7 3 2 -1 0"
)
GROUND: Final = "-12 -12 -16 -16 -19 -19 -17 -17 -12 -12 -16 -14 -17 -16 -17 -12"


def plucked(pitch: float, seconds: float) -> Array:
    """Return one note: a few overtones that die the sooner, the higher they are."""
    time = np.arange(int(seconds * RATE)) / RATE
    base = 220 * 2 ** (pitch / 12)
    tone = sum(
        np.sin(2 * np.pi * base * k * (1 + 0.0002 * k * k) * time) * np.exp(-time * (1.6 + 1.1 * k)) / k**1.3
        for k in range(1, 9)
    )
    return np.asarray(tone * np.minimum(1, time * 220))


def melody() -> Array:
    notes = [(i * BEAT, float(pitch), 1.0) for i, pitch in enumerate(TUNE.split())]
    notes += [(i * 3 * BEAT, float(pitch), 0.8) for i, pitch in enumerate(GROUND.split())]
    notes += [(i * BEAT + BEAT / 2, float(pitch) + 12, 0.18) for i, pitch in enumerate(TUNE.split())]
    sound = np.zeros(int((48 * BEAT + 3) * RATE))
    for start, pitch, loud in notes:
        note = plucked(pitch, 2.4) * loud
        at = int(start * RATE)
        sound[at : at + len(note)] += note
    for delay, part in ((0.19, 0.3), (0.31, 0.2), (0.47, 0.12)):  # a room
        late = int(delay * RATE)
        sound[late:] += sound[:-late] * part
    return np.asarray(sound / np.abs(sound).max() * 0.8)


def make_melody(path: Path) -> None:
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "melody.wav"
        with wave.open(str(plain), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((melody() * 32767).astype("<i2").tobytes())
        encode("-i", str(plain), "-c:a", "libmp3lame", "-b:a", "64k", "-metadata", "title=A stream", str(path))


WIDE, HIGH, FPS, SECONDS = 640, 360, 24, 24


def frame(number: int) -> bytes:
    """Draw one picture of the clip: chunks that flow along a wave, and the second it is."""
    now = number / FPS
    image = Image.new("RGB", (WIDE, HIGH))
    draw = ImageDraw.Draw(image)
    for row in range(HIGH):
        part = row / HIGH
        draw.line(
            (0, row, WIDE, row), fill=tuple(int(a * (1 - part) + b * part) for a, b in zip(NIGHT, SEA, strict=True))
        )
    for i in range(4):
        crest = [
            (x, HIGH * (0.42 + 0.13 * i) + 22 * np.sin(x / (70 + 18 * i) + now * (1.1 + 0.25 * i) + i * 1.7))
            for x in range(0, WIDE + 8, 8)
        ]
        shade = tuple(int(c) for c in mixed(np.array([64.0, 150, 150]), SEA * 0.8, np.array(0.1 + 0.28 * i)))
        draw.polygon([*crest, (WIDE, HIGH), (0, HIGH)], fill=shade)
    for i in range(14):
        x = (i * 50 + now * 60) % (WIDE + 60) - 30
        y = HIGH * 0.42 + 22 * np.sin(x / 70 + now * 1.1) - 16
        tilt = np.cos(x / 70 + now * 1.1) * 5
        hue = tuple(int(c) for c in mixed(GLOW, DUSK, np.array(i / 14)))
        draw.polygon(
            [(x - 11, y - 11 - tilt), (x + 11, y - 11 + tilt), (x + 11, y + 11 + tilt), (x - 11, y + 11 - tilt)],
            fill=hue,
        )
    draw.text((26, 18), f"{now:05.2f}", fill=(255, 236, 200), font=ImageFont.load_default(46))
    draw.rectangle((26, HIGH - 26, 26 + (WIDE - 52) * now / SECONDS, HIGH - 20), fill=(255, 205, 130))
    # What no codec can foresee, so that the clip has bytes enough to be asked for in parts.
    grain = np.random.default_rng(number).normal(0, 3.0, (HIGH, WIDE, 1))
    return np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8).tobytes()


def make_clip(path: Path) -> None:
    command = (
        f"ffmpeg -loglevel error -y -f rawvideo -pix_fmt rgb24 -s {WIDE}x{HIGH} -r {FPS} -i - -c:v libx264 -preset veryslow "
        f"-b:v 300k -maxrate 340k -bufsize 600k -g {FPS} -pix_fmt yuv420p -movflags +faststart -fflags +bitexact"
    ).split()
    with subprocess.Popen([*command, str(path)], stdin=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdin is not None
        for number in range(FPS * SECONDS):
            ffmpeg.stdin.write(frame(number))
    assert ffmpeg.returncode == 0


def encode(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", "-fflags", "+bitexact", *arguments], check=True)


def main() -> None:
    MEDIA.mkdir(exist_ok=True)
    make_picture(MEDIA / "picture.webp")
    make_melody(MEDIA / "melody.mp3")
    make_clip(MEDIA / "clip.mp4")
    for path in sorted(MEDIA.iterdir()):
        print(f"{path.stat().st_size:9,} {path.name}")


if __name__ == "__main__":
    main()
