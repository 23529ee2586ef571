"""What can be in a scene: object categories with their shapes, and settings with their light and ground.

A shape is a list of primitives in the unit square of the object (x to the right, y downwards):
``E`` ellipse and ``R`` rounded rectangle (x0 y0 x1 y1, R also a radius), ``P`` polygon (x y x y ...) and
``L`` line (x0 y0 x1 y1, width). The letter that follows is the paint: ``m`` the object's colour, ``d`` and
``l`` darker and lighter, ``n`` a second colour, or a fixed one of `PAINTS`.
"""

from dataclasses import dataclass
from typing import Literal

PAINTS = {
    "k": (35, 36, 42),
    "w": (250, 248, 242),
    "s": (233, 188, 152),
    "h": (84, 56, 38),
    "g": (74, 140, 70),
    "b": (128, 86, 52),
    "y": (247, 205, 70),
    "r": (205, 52, 44),
    "u": (150, 196, 224),
    "o": (238, 140, 50),
    "e": (150, 152, 158),
}
COLOURS = {
    "red": (206, 60, 52),
    "orange": (232, 136, 48),
    "yellow": (240, 202, 74),
    "green": (86, 152, 84),
    "teal": (58, 150, 148),
    "blue": (62, 108, 186),
    "purple": (128, 86, 168),
    "pink": (232, 140, 168),
    "brown": (140, 94, 58),
    "grey": (142, 144, 150),
    "black": (58, 58, 64),
    "white": (240, 238, 230),
}
ANIMAL = ("brown", "grey", "black", "white", "orange")
BRIGHT = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "white")
Place = Literal["ground", "sky", "wall"]


@dataclass(frozen=True)
class Category:
    """A kind of object, named and numbered as in COCO."""

    name: str
    supercategory: str
    coco_id: int
    place: Place
    height: float  # of the object, as a share of the picture, when it stands in the foreground
    aspect: float  # width / height
    colours: tuple[str, ...]
    shape: str


@dataclass(frozen=True)
class Setting:
    """A kind of place: light, ground and what may stand in it."""

    name: str
    phrase: str
    indoor: bool
    above: tuple[int, int, int]  # colour at the top of the picture
    behind: tuple[int, int, int]  # colour just above the horizon
    far: tuple[int, int, int]  # ground at the horizon
    near: tuple[int, int, int]  # ground at the lower edge
    horizon: float  # height of the horizon, share of the picture from the top
    backdrop: str
    ground: str
    categories: tuple[str, ...]
    strokes: int = 160  # marks that give the ground its texture


_SHAPES = {
    "person": "E h .28 0 .72 .19;E s .32 .03 .68 .22;R m .2 .22 .8 .6 .1;R m .06 .24 .22 .56 .07;"
    "R m .78 .24 .94 .56 .07;E s .06 .52 .22 .6;E s .78 .52 .94 .6;R n .24 .57 .48 .96 .05;"
    "R n .52 .57 .76 .96 .05;E k .18 .93 .48 1;E k .52 .93 .82 1;E k .4 .1 .46 .13;E k .54 .1 .6 .13",
    "bicycle": "E k 0 .4 .42 1;E w .06 .48 .36 .92;E k .58 .4 1 1;E w .64 .48 .94 .92;"
    "L m .21 .7 .4 .25 .05;L m .4 .25 .72 .25 .05;L m .72 .25 .5 .7 .05;L m .21 .7 .5 .7 .05;"
    "L m .4 .25 .5 .7 .05;L m .79 .7 .7 .12 .05;L k .62 .1 .8 .12 .05;L k .32 .2 .46 .2 .08",
    "car": "P d .16 .48 .3 .12 .68 .12 .84 .48;P u .22 .46 .33 .18 .48 .18 .48 .46;"
    "P u .52 .46 .52 .18 .66 .18 .77 .46;R m 0 .42 1 .84 .12;E y .93 .5 1 .62;E r 0 .5 .06 .62;"
    "L d .02 .66 .98 .66 .02;E k .12 .62 .34 1;E e .18 .72 .28 .9;E k .66 .62 .88 1;E e .72 .72 .82 .9",
    "airplane": "P d .34 .5 .6 .98 .72 .98 .58 .5;P m 0 .12 .12 .12 .26 .46 .1 .52;E m .04 .36 1 .66;"
    "P l .4 .44 .62 .06 .72 .06 .6 .44;E u .86 .42 .96 .5;L u .3 .48 .76 .48 .05",
    "bus": "R m 0 .04 1 .88 .08;R u .05 .16 .2 .46 .03;R u .25 .16 .4 .46 .03;R u .45 .16 .6 .46 .03;"
    "R u .65 .16 .8 .46 .03;R u .85 .14 .98 .56 .03;L l 0 .6 1 .6 .05;E k .12 .72 .32 1;"
    "E e .18 .8 .26 .92;E k .68 .72 .88 1;E e .74 .8 .82 .92",
    "boat": "P w .46 .02 .46 .64 .12 .64;P l .54 .12 .54 .64 .88 .64;L b .5 0 .5 .74 .03;"
    "P m 0 .7 1 .7 .84 1 .16 1;L d .04 .78 .96 .78 .03",
    "traffic light": "R k .4 .55 .6 1 .02;R k .18 0 .82 .6 .14;E r .32 .05 .68 .2;E y .32 .23 .68 .38;"
    "E g .32 .41 .68 .56",
    "stop sign": "R e .46 .4 .54 1 .01;P w .3 0 .7 0 1 .18 1 .4 .7 .58 .3 .58 0 .4 0 .18;"
    "P r .32 .03 .68 .03 .95 .19 .95 .39 .68 .55 .32 .55 .05 .39 .05 .19;L w .14 .29 .28 .29 .08;"
    "L w .34 .29 .46 .29 .08;L w .52 .29 .66 .29 .08;L w .72 .29 .86 .29 .08",
    "bench": "R m 0 0 1 .14 .04;R m 0 .2 1 .34 .04;R d 0 .48 1 .6 .04;R k .06 .1 .12 1 .02;"
    "R k .88 .1 .94 1 .02;R k .2 .58 .25 1 .02;R k .75 .58 .8 1 .02",
    "bird": "P m .7 .5 1 .34 .98 .62;E m .2 .3 .84 .84;E m .1 .1 .44 .5;P o .12 .24 .12 .38 0 .32;"
    "E w .19 .19 .29 .31;E k .21 .22 .27 .29;P d .36 .4 .78 .46 .56 .74;L o .44 .82 .42 1 .04;"
    "L o .58 .82 .58 1 .04",
    "cat": "L m .8 .7 .98 .3 .09;E m .3 .36 .88 1;E m .06 .14 .54 .58;P m .1 .26 .1 0 .28 .17;"
    "P m .5 .26 .5 0 .32 .17;E y .16 .3 .26 .4;E y .34 .3 .44 .4;E k .19 .31 .23 .4;E k .37 .31 .41 .4;"
    "P s .27 .42 .33 .42 .3 .47;R m .34 .7 .46 1 .05;R m .52 .74 .64 1 .05;L d .56 .5 .72 .46 .03;"
    "L d .6 .6 .78 .56 .03",
    "dog": "L m .86 .4 .98 .12 .08;R m .26 .32 .9 .72 .18;E m .06 .06 .46 .46;R d .0 .1 .14 .44 .07;"
    "R d .36 .1 .48 .42 .06;E w .12 .2 .22 .3;E k .15 .22 .21 .29;E l .06 .28 .28 .46;E k .06 .3 .14 .37;"
    "R m .3 .62 .4 1 .04;R m .46 .62 .56 1 .04;R m .66 .62 .76 1 .04;R m .8 .62 .9 1 .04;"
    "L r .32 .42 .44 .34 .05",
    "sheep": "R k .28 .62 .36 1 .02;R k .42 .62 .5 1 .02;R k .64 .62 .72 1 .02;R k .76 .62 .84 1 .02;"
    "E w .2 .2 .6 .78;E w .4 .12 .8 .74;E w .56 .22 .98 .78;E w .3 .4 .86 .84;E k .04 .2 .32 .6;"
    "E w .06 .12 .3 .32;E w .1 .32 .17 .4",
    "elephant": "R d .34 .5 .46 1 .05;R d .76 .5 .88 1 .05;E m .24 .1 .98 .8;R m .3 .5 .44 1 .05;"
    "R m .66 .5 .8 1 .05;E m .06 .08 .46 .58;R m .04 .34 .15 .92 .06;E l .26 .1 .5 .54;E w .13 .24 .2 .32;"
    "E k .15 .26 .19 .31;P w .14 .5 .2 .48 .08 .68;L d .96 .36 1 .66 .02",
    "umbrella": "L b .5 .1 .5 .92 .03;E m 0 0 1 .9;P l .36 .45 .5 0 .64 .45;R n .0 .46 1 .5 .01;"
    "L b .5 .5 .5 1 .04",
    "kite": "P m .5 0 .86 .32 .5 .74 .14 .32;P l .5 0 .86 .32 .5 .32;P n .14 .32 .5 .32 .5 .74;"
    "L k .5 .74 .42 .86 .02;L k .42 .86 .56 1 .02;E r .38 .82 .48 .9;E y .5 .94 .6 1",
    "sports ball": "E m 0 0 1 1;E l .14 .08 .56 .5;P d .5 .34 .66 .46 .6 .64 .4 .64 .34 .46;"
    "L d .5 .34 .5 .02 .03;L d .66 .46 .97 .38 .03;L d .34 .46 .03 .38 .03;L d .6 .64 .76 .9 .03;"
    "L d .4 .64 .24 .9 .03",
    "bottle": "R d .36 0 .64 .12 .03;R m .38 .08 .62 .4 .06;R m .16 .3 .84 1 .16;R w .16 .52 .84 .78 .02;"
    "R n .26 .6 .74 .7 .03;L l .28 .4 .28 .92 .05",
    "cup": "E m .6 .2 1 .8;E w .7 .34 .9 .66;R m 0 .06 .78 1 .14;E l 0 0 .78 .2;E b .06 .03 .72 .17;"
    "L l .14 .3 .14 .8 .06",
    "apple": "E m .02 .2 .62 1;E m .38 .2 .98 1;E l .16 .32 .36 .56;L b .5 .3 .56 .04 .05;"
    "E g .54 .02 .86 .18",
    "orange": "E o 0 0 1 1;E y .18 .14 .42 .4;E g .44 .02 .58 .12;E b .48 .04 .54 .1",
    "pizza": "E b 0 .1 1 .9;E y .05 .16 .95 .84;E r .2 .24 .36 .4;E r .54 .22 .7 .38;E r .38 .44 .54 .6;"
    "E r .68 .5 .84 .66;E r .2 .56 .36 .72;E g .46 .3 .54 .38;E g .6 .66 .7 .72;E g .12 .44 .22 .52",
    "cake": "E e 0 .74 1 1;R m .08 .42 .92 .88 .08;E l .08 .34 .92 .52;R n .08 .6 .92 .68 .02;"
    "R w .28 .12 .34 .42 .02;R w .48 .1 .54 .42 .02;R w .68 .12 .74 .42 .02;E o .27 .02 .35 .14;"
    "E o .47 0 .55 .12;E o .67 .02 .75 .14",
    "chair": "R m .12 0 .24 .58 .04;R m .76 0 .88 .58 .04;R m .12 .04 .88 .14 .03;R m .12 .24 .88 .32 .03;"
    "P l .06 .5 .94 .5 1 .64 0 .64;R d .04 .62 .14 1 .02;R d .86 .62 .96 1 .02;R d .24 .62 .3 .9 .02;"
    "R d .7 .62 .76 .9 .02",
    "couch": "R m .06 .02 .94 .7 .12;R l .1 .3 .5 .74 .08;R l .5 .3 .9 .74 .08;R d 0 .3 .14 .88 .1;"
    "R d .86 .3 1 .88 .1;R m .1 .66 .9 .9 .04;R k .08 .88 .14 1 .02;R k .86 .88 .92 1 .02;"
    "R n .16 .34 .34 .6 .04",
    "potted plant": "L g .5 .7 .5 .2 .04;E g .3 0 .62 .4;E g .02 .14 .46 .44;E g .54 .16 .98 .46;"
    "E g .12 .36 .5 .66;E g .5 .38 .9 .64;P m .2 .64 .8 .64 .7 1 .3 1;R d .16 .6 .84 .7 .02",
    "tv": "R k 0 0 1 .82 .04;R m .04 .05 .96 .76 .02;P l .08 .08 .5 .08 .2 .72 .08 .72;E w .6 .18 .8 .42;"
    "R e .44 .8 .56 .94 .01;R k .26 .92 .74 1 .03",
    "clock": "E b 0 0 1 1;E w .09 .09 .91 .91;L k .5 .5 .5 .2 .06;L k .5 .5 .72 .6 .06;"
    "E r .45 .45 .55 .55;L k .5 .1 .5 .16 .04;L k .5 .84 .5 .9 .04;L k .1 .5 .16 .5 .04;"
    "L k .84 .5 .9 .5 .04",
    "book": "R d 0 .08 1 1 .03;R w .04 .0 .98 .9 .02;R m 0 0 .92 .92 .03;R l .14 .16 .78 .3 .01;"
    "L w .18 .46 .74 .46 .05;L w .18 .58 .74 .58 .05;L w .18 .7 .56 .7 .05",
}
# name, supercategory, COCO id, place, height, aspect, colours
_CATEGORIES = (
    ("person", "person", 1, "ground", 0.52, 0.44, BRIGHT),
    ("bicycle", "vehicle", 2, "ground", 0.27, 1.5, BRIGHT),
    ("car", "vehicle", 3, "ground", 0.24, 2.1, (*BRIGHT, "black", "grey")),
    ("airplane", "vehicle", 5, "sky", 0.17, 2.4, ("white", "grey", "red", "blue")),
    ("bus", "vehicle", 6, "ground", 0.34, 2.0, ("red", "yellow", "blue", "green", "white")),
    ("boat", "vehicle", 9, "ground", 0.42, 1.0, ("red", "blue", "brown", "white", "green")),
    ("traffic light", "outdoor", 10, "ground", 0.5, 0.3, ("black",)),
    ("stop sign", "outdoor", 13, "ground", 0.46, 0.56, ("red",)),
    ("bench", "outdoor", 15, "ground", 0.22, 1.7, ("brown", "green", "grey")),
    ("bird", "animal", 16, "sky", 0.15, 1.2, (*ANIMAL, "blue", "red", "yellow")),
    ("cat", "animal", 17, "ground", 0.28, 0.92, ANIMAL),
    ("dog", "animal", 18, "ground", 0.3, 1.12, ANIMAL),
    ("sheep", "animal", 20, "ground", 0.27, 1.3, ("white",)),
    ("elephant", "animal", 22, "ground", 0.5, 1.25, ("grey",)),
    ("umbrella", "accessory", 28, "ground", 0.42, 0.95, BRIGHT),
    ("sports ball", "sports", 37, "ground", 0.13, 1.0, BRIGHT),
    ("kite", "sports", 38, "sky", 0.26, 0.72, BRIGHT),
    ("bottle", "kitchen", 44, "ground", 0.34, 0.36, ("green", "teal", "brown", "blue", "red")),
    ("cup", "kitchen", 47, "ground", 0.19, 1.15, BRIGHT),
    ("apple", "food", 53, "ground", 0.17, 1.0, ("red", "green", "yellow")),
    ("orange", "food", 55, "ground", 0.16, 1.0, ("orange",)),
    ("pizza", "food", 59, "ground", 0.2, 1.8, ("yellow",)),
    ("cake", "food", 61, "ground", 0.3, 1.15, ("pink", "brown", "white", "yellow")),
    ("chair", "furniture", 62, "ground", 0.4, 0.72, ("brown", "red", "teal", "white", "grey")),
    ("couch", "furniture", 63, "ground", 0.34, 1.9, ("red", "teal", "grey", "brown", "purple", "green")),
    ("potted plant", "furniture", 64, "ground", 0.4, 0.76, ("brown", "orange", "white", "blue")),
    ("tv", "electronic", 72, "wall", 0.28, 1.45, ("blue", "teal", "purple", "grey")),
    ("book", "indoor", 84, "ground", 0.2, 0.8, BRIGHT),
    ("clock", "indoor", 85, "wall", 0.18, 1.0, ("brown",)),
)
CATEGORIES: dict[str, Category] = {row[0]: Category(*row, shape=_SHAPES[row[0]]) for row in _CATEGORIES}
SUPERCATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(c.supercategory for c in CATEGORIES.values()))

_PARK = ("person", "dog", "bird", "bench", "bicycle", "sports ball", "kite")
_STREET = ("car", "bus", "person", "bicycle", "traffic light", "stop sign", "dog", "bird")
_TABLE = ("cup", "bottle", "apple", "orange", "pizza", "cake", "book", "clock")
_ROOM = ("couch", "chair", "tv", "cat", "dog", "potted plant", "clock", "book", "person")
_SETTINGS = (
    Setting(
        "beach",
        "on a beach",
        False,
        (92, 168, 222),
        (196, 226, 236),
        (226, 204, 150),
        (242, 222, 172),
        0.46,
        "sea",
        "dots",
        ("person", "umbrella", "bird", "dog", "kite", "sports ball", "boat"),
    ),
    Setting(
        "park",
        "in a park",
        False,
        (120, 184, 230),
        (206, 230, 238),
        (120, 174, 92),
        (84, 146, 66),
        0.5,
        "trees",
        "blades",
        _PARK,
    ),
    Setting(
        "pasture",
        "in a hilly pasture",
        False,
        (136, 190, 226),
        (220, 234, 232),
        (142, 182, 96),
        (104, 158, 70),
        0.52,
        "hills",
        "blades",
        ("sheep", "sheep", "dog", "person", "bird", "elephant"),
    ),
    Setting(
        "savannah",
        "on the savannah",
        False,
        (238, 180, 104),
        (250, 222, 160),
        (204, 168, 92),
        (176, 134, 66),
        0.55,
        "sun",
        "blades",
        ("elephant", "elephant", "bird", "airplane", "person"),
    ),
    Setting(
        "street",
        "on a city street",
        False,
        (150, 186, 214),
        (214, 222, 226),
        (112, 114, 120),
        (92, 94, 100),
        0.55,
        "houses",
        "road",
        _STREET,
        40,
    ),
    Setting(
        "night street",
        "on a street at night",
        False,
        (20, 26, 58),
        (58, 56, 92),
        (58, 60, 74),
        (44, 46, 58),
        0.55,
        "night",
        "road",
        _STREET,
        40,
    ),
    Setting(
        "lake",
        "on a lake below mountains",
        False,
        (126, 180, 226),
        (226, 234, 240),
        (84, 146, 190),
        (44, 104, 160),
        0.5,
        "mountains",
        "waves",
        ("boat", "boat", "bird", "airplane", "kite"),
        90,
    ),
    Setting(
        "snow",
        "in the snow",
        False,
        (150, 184, 218),
        (226, 234, 242),
        (224, 232, 240),
        (246, 250, 252),
        0.5,
        "mountains",
        "dots",
        ("person", "dog", "bird", "bench", "car"),
    ),
    Setting(
        "living room",
        "in a living room",
        True,
        (214, 196, 168),
        (226, 210, 184),
        (164, 118, 76),
        (146, 98, 60),
        0.66,
        "window",
        "planks",
        _ROOM,
        12,
    ),
    Setting(
        "bedroom",
        "in a blue room",
        True,
        (134, 164, 190),
        (158, 186, 208),
        (190, 176, 158),
        (168, 152, 132),
        0.68,
        "stripes",
        "rug",
        ("chair", "cat", "book", "clock", "potted plant", "tv", "person"),
        8,
    ),
    Setting(
        "kitchen table",
        "on a kitchen table",
        True,
        (226, 222, 206),
        (236, 232, 218),
        (196, 148, 96),
        (172, 120, 70),
        0.46,
        "tiles",
        "planks",
        _TABLE,
        10,
    ),
    Setting(
        "café table",
        "on a checked table cloth",
        True,
        (110, 70, 60),
        (134, 88, 72),
        (228, 220, 212),
        (240, 234, 226),
        0.44,
        "bricks",
        "checks",
        _TABLE,
        10,
    ),
)
SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _SETTINGS}
