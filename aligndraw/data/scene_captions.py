"""Captions of scenes, in several wordings."""

from __future__ import annotations

from collections.abc import Sequence

from aligndraw.data.scene import COLOURS, Scene
from aligndraw.data.scene_synonyms import SYNONYMS
from aligndraw.text import Vocabulary

NOUNS = {
    "bus": ("school bus", "bus"),
    "car": ("car", "automobile"),
    "plane": ("plane", "airplane", "jet"),
    "boat": ("boat", "sailboat"),
    "bird": ("bird",),
    "house": ("house", "cottage"),
    "tree": ("tree",),
    "ball": ("ball", "beach ball"),
    "kite": ("kite",),
    "elephant": ("elephant",),
    "stop sign": ("stop sign",),
    "toilet": ("toilet", "toilet seat"),
    "balloon": ("balloon", "hot air balloon"),
    "umbrella": ("umbrella", "parasol"),
    "flower": ("flower",),
    "cat": ("cat", "kitten"),
}
_VERBS = {
    "bus": ("is parked", "stands", "is driving", "drives"),
    "car": ("is parked", "stands", "is driving", "drives"),
    "bird": ("is standing", "sits", "is walking", "walks"),
    "elephant": ("is standing", "stands", "is walking", "walks"),
    "cat": ("is sitting", "sits", "is walking", "walks"),
    "tree": ("is standing", "stands", "is growing", "grows"),
    "flower": ("is standing", "stands", "is growing", "grows"),
    "toilet": ("sits open", "stands"),
    "ball": ("lies", "is lying"),
}
_STANDS = ("is standing", "stands")
_FLIES = ("is flying", "flies", "is floating", "hovers")
_FLOATS = ("is floating", "floats")  # for all objects at sea
_SAILS = (*_FLOATS, "is sailing", "sails")
_SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
_ON = {
    "grass": ("on the grass", "on a green field", "on a lawn"),
    "sand": ("on the sand", "on a beach", "in the desert"),
    "sea": ("on the sea", "on the water", "on the waves"),
    "snow": ("in the snow", "on the snow", "on white snow"),
    "road": ("on the road", "on a street", "on the asphalt"),
}
_OVER = {
    "grass": ("over the grass", "above a green field", "over a lawn"),
    "sand": ("over the sand", "above a beach", "over the desert"),
    "sea": ("over the sea", "above the water", "over the waves"),
    "snow": ("over the snow", "above the snow", "over white snow"),
    "road": ("over the road", "above a street", "over the asphalt"),
}
_UNDER = {
    "blue": ("under a blue sky", "under a clear blue sky", "on a sunny day"),
    "cloudy": ("under a cloudy sky", "on a cloudy day", "under grey clouds"),
    "sunset": ("at sunset", "under an orange sky", "in the evening"),
    "night": ("at night", "under a dark sky", "under the moon"),
}
_WHERE = {
    "left": ("on the left", "to the left"),
    "middle": ("in the middle", "in the centre"),
    "right": ("on the right", "to the right"),
}
TEMPLATES = (
    "a {size} {colour} {noun} {verb} {place} {sky} .",
    "a {size} {colour} {noun} {verb} {place} {side} .",
    "there is a {size} {colour} {noun} {place} {sky} .",
    "{sky} a {size} {colour} {noun} {verb} {place} .",
    "{side} a {colour} {noun} {verb} {place} .",
    "the {size} {noun} {place} {sky} is {colour} .",
    "a picture of a {size} {colour} {noun} {place} {side} .",
    "a {colour} {noun} {place} .",
)
# A template's size is left out one time in 2, its side and sky one time in 4.
_LEFT_OUT = {"size": 2, "side": 4, "sky": 4}


def caption(scene: Scene, choices: Sequence[int] = (0,) * 10, *, earlier: bool = False) -> str:
    """Returns a caption of a scene, its words separated by spaces.

    Args:
        scene: to describe.
        choices: of the wording, ten whole numbers, each taken modulo its options: template, noun, verb, size, place,
            side and sky, then the omission of size, side and sky.
        earlier: in the `EARLIER` words.
    """
    template, noun, verb, size, place, side, sky, *_ = choices
    sentence = _pick(TEMPLATES, template)
    at_sea = _SAILS if scene.object == "boat" else _FLOATS
    grounded = at_sea if scene.ground == "sea" else _VERBS.get(scene.object, _STANDS)
    if earlier:
        grounded = tuple(verb for verb in grounded if not _NEWER & set(verb.split()))
    parts = {
        "colour": scene.colour,
        "noun": _pick(NOUNS[scene.object], noun) + " flying" * (scene.flying and "{verb}" not in sentence),
        "verb": _pick(_FLIES if scene.flying else grounded, verb),
        "size": _pick(_SIZE_WORDS[scene.size], size),
        "place": _pick((_OVER if scene.flying else _ON)[scene.ground], place),
        "side": _pick(_WHERE[scene.side], side),
        "sky": _pick(_UNDER[scene.sky], sky),
    }
    for part in _LEFT_OUT.keys() - named_attributes(choices):
        parts[part] = ""
    words = sentence.format(**parts).split()
    following = [*words[1:], ""]
    return " ".join("an" if pair == ("a", "orange") else pair[0] for pair in zip(words, following))


def named_attributes(choices: Sequence[int]) -> set[str]:
    """Returns the attributes of a `Scene` that its caption in this wording names; choices as in `caption`."""
    sentence = _pick(TEMPLATES, choices[0])
    optional = {
        part
        for (part, one_in), choice in zip(_LEFT_OUT.items(), choices[7:])
        if f"{{{part}}}" in sentence and choice % one_in != one_in - 1
    }
    return {"object", "colour", "ground", "flying"} | optional


def _pick(options: Sequence[str], choice: int) -> str:
    return options[choice % len(options)]


def _all_words() -> Vocabulary:
    """Returns the vocabulary of all captions."""
    tables = (NOUNS, _VERBS, _SIZE_WORDS, _ON, _OVER, _UNDER, _WHERE, {"": (*_STANDS, *_FLIES, *_SAILS, *COLOURS)})
    phrases = [phrase for table in tables for phrases in table.values() for phrase in phrases]
    words = {word for phrase in (*phrases, *TEMPLATES, "an flying") for word in phrase.split()}
    return Vocabulary(tuple(sorted(w for w in words if not w.startswith("{"))), synonyms=SYNONYMS)


VOCABULARY = _all_words()
_NEWER = set("drives driving grows growing sails sailing walks walking".split())
EARLIER = Vocabulary(tuple(word for word in VOCABULARY.words if word not in _NEWER))  # of version 0.1
