"""Renders a road with traffic whose true background and damage are known.

Seen from a mast along the road, in perspective. Every frame follows from seed and number alone,
so that tests and benchmarks can ask for any of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.simulate.road import Road

Image = NDArray[np.uint8]
Variant = Literal["light", "heavy", "parked", "jam", "shake"]

VARIANTS: Final[tuple[Variant, ...]] = ("light", "heavy", "parked", "jam", "shake")
_LANES: Final = 4
#: Share of the clip for which the vehicle of the variant `parked` stands.
PARKED_SHARE: Final = 0.65
#: Root mean square of the camera's shake, in pixels, each way.
SHAKE_PIXELS: Final = 1.5
#: Noise of the sensor, standard deviation in grey levels.
NOISE_LEVELS: Final = 3.0
_NOISE_FIELDS: Final = 8


@dataclass(frozen=True)
class _Vehicle:
    lane: int
    start: float
    speed: float
    length: float
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """A road under one kind of traffic.

    Attributes:
        variant: kind of traffic, or a shaking camera under light traffic.
        width: of the frames.
        height: of the frames.
        seconds: length.
        rate: frames per second.
        seed: of vehicles, noise and shake; not of the road.
        place: which road; scenes of one place share their true background.
        light: factor on all brightness: another time of the day.
    """

    variant: Variant = "light"
    width: int = 640
    height: int = 360
    seconds: float = 20.0
    rate: int = 25
    seed: int = 0
    place: int = 0
    light: float = 1.0

    @property
    def count(self) -> int:
        """How many frames there are."""
        return int(self.seconds * self.rate)

    @cached_property
    def road(self) -> Road:
        """The road without traffic, with its damage."""
        return Road(self.width, self.height, self.place)

    @cached_property
    def truth(self) -> Image:
        """The true background under this light, without noise."""
        return self._lit(self.road.picture)

    def frames(self) -> Iterator[Image]:
        """Yield every frame, BGR."""
        for number in range(self.count):
            yield self.frame(number)

    def frame(self, number: int) -> Image:
        """Render one frame, BGR."""
        time = number / self.rate
        picture = self.road.picture.copy()
        places = [(self._along(vehicle, time), vehicle) for vehicle in self._vehicles]
        for along, vehicle in sorted(places, key=lambda place: place[0]):
            self._draw(picture, along, vehicle)
        if self.variant == "shake":
            picture = self._shaken(picture, time)
        noise = self._noise[number % _NOISE_FIELDS]
        rolled = np.roll(noise, (number * 37 % self.height, number * 91 % self.width), (0, 1))
        noisy = np.clip(self._lit(picture).astype(np.int16) + rolled, 0, 255)
        return np.asarray(noisy, dtype=np.uint8)

    def shift(self, time: float) -> tuple[float, float]:
        """Return how far the camera has moved at a time, in pixels, right and down."""
        phases = np.random.default_rng(self.seed + 5).uniform(0, 2 * np.pi, (2, 3))
        turns = np.array([0.9, 2.3, 5.1]) * 2 * np.pi * time
        moves = np.sin(turns + phases) @ np.array([1.0, 0.8, 0.6])
        right, down = moves * SHAKE_PIXELS
        return float(right), float(down)

    @cached_property
    def _vehicles(self) -> list[_Vehicle]:
        random = np.random.default_rng(self.seed + 1)
        if self.variant == "jam":
            return [
                _random_vehicle(random, lane, -0.1 + 0.09 * place, 0.006, length=0.075)
                for lane in range(_LANES)
                for place in range(14)
            ]
        count = 16 if self.variant == "heavy" else 8
        vehicles = [
            _random_vehicle(
                random, place % _LANES, random.uniform(0, 1.3), random.uniform(0.12, 0.3)
            )
            for place in range(count)
        ]
        if self.variant == "parked":
            vehicles.append(_Vehicle(3, 0.72, 0.0, 0.16, (60, 70, 190)))
        return vehicles

    def _along(self, vehicle: _Vehicle, time: float) -> float:
        """Return where a vehicle is along the road: 0 is far, 1 near, others are out of sight."""
        if vehicle.speed == 0:
            return vehicle.start if time < self.seconds * PARKED_SHARE else 2.0
        return (vehicle.start + vehicle.speed * time) % 1.3 - 0.1

    def _draw(self, picture: Image, along: float, vehicle: _Vehicle) -> None:
        back, front = along - vehicle.length, along
        left, right = vehicle.lane / _LANES + 0.03, (vehicle.lane + 1) / _LANES - 0.03
        shadow = self.road.quad(left - 0.01, right + 0.02, back, front + 0.012)
        body = self.road.quad(left, right, back, front)
        window = self.road.quad(
            left + 0.03, right - 0.03, back + vehicle.length * 0.25, front - vehicle.length * 0.3
        )
        for corners, colour in (
            (shadow, (28, 28, 30)),
            (body, vehicle.colour),
            (window, tuple(level // 3 for level in vehicle.colour)),
        ):
            cv2.fillConvexPoly(picture, corners, colour, cv2.LINE_AA, 4)

    def _shaken(self, picture: Image, time: float) -> Image:
        right, down = self.shift(time)
        move = np.array([[1, 0, right], [0, 1, down]], np.float32)
        size = (self.width, self.height)
        moved = cv2.warpAffine(
            picture, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        return moved.astype(np.uint8, copy=False)

    def _lit(self, picture: Image) -> Image:
        if self.light == 1.0:
            return picture
        return np.asarray(np.clip(picture * self.light + 0.5, 0, 255), dtype=np.uint8)

    @cached_property
    def _noise(self) -> NDArray[np.int16]:
        random = np.random.default_rng(self.seed + 9)
        shape = (_NOISE_FIELDS, self.height, self.width, 3)
        return np.rint(random.normal(0, NOISE_LEVELS, shape)).astype(np.int16)


def _random_vehicle(
    random: np.random.Generator, lane: int, start: float, speed: float, length: float | None = None
) -> _Vehicle:
    colours = ((200, 200, 205), (40, 42, 45), (150, 60, 40), (50, 50, 170), (225, 230, 232))
    colour = colours[int(random.integers(len(colours)))]
    return _Vehicle(lane, start, speed, length or random.uniform(0.09, 0.17), colour)
