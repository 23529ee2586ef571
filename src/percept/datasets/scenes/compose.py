"""Which objects a scene holds, where they stand, and how it is said in words."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from percept.datasets.scenes.catalogue import CATEGORIES, COLOURS, SETTINGS, Category, Setting

SIZE = 425  # pixels, as NSD's stimuli
MAX_OBJECTS = 4
SAME_AGAIN = 0.35  # probability that the next object is of the category of the last


@dataclass(frozen=True)
class Object:
    """One thing in a scene; the box is (left, top, width, height) in shares of the picture."""

    category: str
    colour: str
    second: str
    box: tuple[float, float, float, float]
    mirrored: bool


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows; objects are listed from back to front."""

    stimulus: int
    setting: str
    horizon: float
    light: float  # 0.75 dim .. 1.1 bright
    warmth: float  # -1 cool .. 1 warm
    objects: tuple[Object, ...]
    key: tuple[int, int]  # seeds the brush strokes

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories present, in the order of the catalogue."""
        present = {thing.category for thing in self.objects}
        return tuple(name for name in CATEGORIES if name in present)


def compose(seed: int, stimulus: int) -> Scene:
    """The scene of one image: the same for the same seed and id, whatever else was composed before."""
    rng = np.random.default_rng([seed, stimulus])
    setting = SETTINGS[_choose(rng, tuple(SETTINGS))]
    horizon = float(np.clip(setting.horizon + rng.normal(0, 0.04), 0.3, 0.8))
    objects = []
    while len(objects) < MAX_OBJECTS and (not objects or rng.random() < 0.62):
        again = objects and rng.random() < SAME_AGAIN
        name = objects[-1].category if again else _choose(rng, setting.categories)
        objects.append(_place(rng, CATEGORIES[name], setting, horizon))
    objects.sort(key=lambda thing: thing.box[1] + thing.box[3])
    light, warmth = float(rng.uniform(0.75, 1.1)), float(rng.uniform(-1, 1))
    return Scene(stimulus, setting.name, horizon, light, warmth, tuple(objects), (seed, stimulus))


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _place(rng: np.random.Generator, category: Category, setting: Setting, horizon: float) -> Object:
    """An object of the category at a random depth: what is farther is smaller and higher on the ground."""
    table = setting.name.endswith("table")
    if category.place == "ground":
        nearness = rng.uniform(0.35, 1.0)
        bottom = horizon + (0.97 - horizon) * nearness
        scale = (1.25 if table else 0.5 + 0.6 * nearness) * rng.uniform(0.85, 1.15)
    else:
        scale = rng.uniform(0.75, 1.35)
        bottom = rng.uniform(0.5, 0.95) * max(horizon, category.height * scale + 0.02)
    height = min(category.height * scale, 0.9)
    width = min(height * category.aspect, 0.9)
    top = float(max(bottom - height, 0.01))
    left = float(rng.uniform(-0.04, 1.04 - width))
    second = _choose(rng, tuple(COLOURS))
    colour = _choose(rng, category.colours)
    return Object(
        category.name, colour, second, (left, top, float(width), float(height)), bool(rng.random() < 0.5)
    )


def captions(scene: Scene) -> tuple[str, ...]:
    """Five ways of saying what the scene shows, the fullest first (COCO gives five captions an image)."""
    place = SETTINGS[scene.setting].phrase
    counts = Counter(thing.category for thing in reversed(scene.objects))
    plain = _join([_several(name, count) for name, count in counts.items()])
    front = scene.objects[-1]
    coloured = _join([_several(name, n, _colour_of(scene, name, n)) for name, n in counts.items()])
    side = ("left", "middle", "right")[min(2, max(0, int(3 * (front.box[0] + front.box[2] / 2))))]
    light = "bright" if scene.light > 0.97 else "dim" if scene.light < 0.85 else "soft"
    return (
        f"{coloured} {place}".capitalize() + ".",
        f"{plain} {place}".capitalize() + ".",
        f"A picture of {plain} {place}.",
        f"A {front.colour} {front.category} in the {side} of a scene {place}.",
        f"{plain}, {place}, in {light} light".capitalize() + ".",
    )


def _colour_of(scene: Scene, name: str, count: int) -> str:
    colours = {thing.colour for thing in scene.objects if thing.category == name}
    return colours.pop() if count == 1 and not name.endswith("light") and name != "orange" else ""


def _several(name: str, count: int, colour: str = "") -> str:
    noun = (
        name
        if count == 1
        else {
            "person": "people",
            "bus": "buses",
            "sheep": "sheep",
            "couch": "couches",
            "bench": "benches",
        }.get(name, f"{name}s")
    )
    words = f"{colour} {noun}".strip()
    number = ("an" if words[0] in "aeiou" else "a") if count == 1 else ("two", "three", "four")[count - 2]
    return f"{number} {words}"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
