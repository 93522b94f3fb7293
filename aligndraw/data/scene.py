"""A scene: one object before a sky and a ground; its possible values, and the combinations held out."""

from __future__ import annotations

from typing import NamedTuple

from aligndraw.data.sprites import OBJECTS

SIDE = 32  # height and width of a picture


class Scene(NamedTuple):
    """The contents of a picture. A flying object is above the ground, others stand on it."""

    object: str
    colour: str
    sky: str
    ground: str
    size: str
    side: str
    flying: bool

    @property
    def place(self) -> str:
        """The place of the object: "sky", or the ground that it stands on."""
        return "sky" if self.flying else self.ground


COLOURS = {
    "red": (214, 38, 38),
    "orange": (240, 130, 20),
    "yellow": (245, 214, 40),
    "green": (40, 150, 60),
    "blue": (40, 90, 210),
    "purple": (130, 55, 175),
    "pink": (245, 130, 180),
    "white": (242, 242, 242),
}


class Sky(NamedTuple):
    """A sky: its colours overhead and at the horizon, its light, further things in it, and their colour."""

    top: tuple[int, int, int]
    bottom: tuple[int, int, int]
    light: str
    others: tuple[str, ...]
    colour: tuple[int, int, int] = (250, 250, 250)


SKIES = {
    "blue": Sky((84, 156, 236), (176, 216, 248), "sun", ("cloud",)),
    "cloudy": Sky((140, 148, 160), (190, 196, 204), "nothing", ("cloud",) * 3, (226, 228, 232)),
    "sunset": Sky((120, 70, 130), (250, 160, 80), "low sun", ("cloud",), (216, 110, 110)),
    "night": Sky((10, 14, 46), (38, 44, 92), "moon", ("stars",)),
}
# Colours far and near, and the sprite over them.
GROUNDS = {
    "grass": ((110, 186, 80), (70, 146, 54), "grass"),
    "sand": ((240, 216, 150), (226, 190, 120), "sand"),
    "sea": ((60, 140, 196), (26, 92, 150), "sea"),
    "snow": ((236, 242, 250), (246, 250, 255), "snow"),
    "road": ((96, 96, 102), (70, 70, 76), "road"),
}
SIZES = {"small": (4.6, 5.6), "large": (8.0, 9.2)}  # pixels of half an object's width
SIDES = {"left": (8.5, 10.0), "middle": (15.0, 17.0), "right": (22.0, 23.5)}  # pixels
HORIZON = (18.5, 22.0)  # pixels from the top

# For each object, the colour and the place that it never has in training.
HELD_OUT = {
    "bus": ("green", "sea"),
    "car": ("pink", "snow"),
    "plane": ("purple", "sand"),
    "boat": ("yellow", "grass"),
    "bird": ("orange", "road"),
    "house": ("blue", "sky"),
    "tree": ("white", "sea"),
    "ball": ("green", "snow"),
    "kite": ("purple", "sea"),
    "elephant": ("red", "snow"),
    "stop sign": ("blue", "sky"),
    "toilet": ("orange", "grass"),
    "balloon": ("white", "sand"),
    "umbrella": ("yellow", "road"),
    "flower": ("red", "sand"),
    "cat": ("pink", "sky"),
}

# The values of a `Scene`, in its order.
ATTRIBUTES: dict[str, tuple[str | bool, ...]] = {
    "object": tuple(OBJECTS),
    "colour": tuple(COLOURS),
    "sky": tuple(SKIES),
    "ground": tuple(GROUNDS),
    "size": tuple(SIZES),
    "side": tuple(SIDES),
    "flying": (False, True),
}


def is_held_out(scene: Scene) -> bool:
    """Returns whether a scene is kept out of training."""
    colour, place = HELD_OUT[scene.object]
    return scene.colour == colour or scene.place == place
