"""Words and phrases that people write of scenes, as words that captions of scenes have; "" is left out."""

from __future__ import annotations

_READ_AS = {
    # things
    "airplane": "aeroplane aircraft airliner",
    "automobile": "auto",
    "balloon": "balloons",
    "ball": "balls",
    "bird": "birds birdie songbird",
    "boat": "boats ship ships",
    "bus": "buses coach",
    "car": "cars",
    "cat": "cats kitty",
    "cottage": "cabin hut",
    "elephant": "elephants",
    "flower": "flowers blossom blossoms tulip daisy rose",
    "house": "houses home",
    "jet": "jets jetliner",
    "kite": "kites",
    "kitten": "kittens",
    "plane": "planes",
    "sailboat": "sailboats yacht",
    "tree": "trees oak",
    "umbrella": "umbrellas",
    # colours
    "orange": "tangerine",
    "pink": "rosy",
    "purple": "violet lilac",
    "red": "crimson scarlet",
    "yellow": "golden",
    # sizes
    "huge": "giant gigantic enormous massive great",
    "large": "tall",
    "small": "short",
    "tiny": "mini miniature wee",
    # places
    "asphalt": "pavement tarmac",
    "beach": "seaside shore coast",
    "field": "meadow pasture hill",
    "grass": "grassy",
    "lawn": "garden park",
    "road": "highway motorway lane path avenue",
    "sand": "sandy dune dunes",
    "sea": "ocean",
    "snow": "snowy ice icy",
    "water": "lake river",
    "waves": "wave",
    # where
    "centre": "center",
    "in": "into through inside",
    "on": "across along atop beside by down near onto up upon",
    "over": "overhead",
    "under": "beneath below underneath",
    # the sky
    "clouds": "cloud",
    "cloudy": "overcast stormy rainy gloomy",
    "dark": "starry darkness",
    "day": "afternoon morning daytime midday noon",
    "evening": "nightfall",
    "grey": "gray",
    "moon": "moonlight stars",
    "night": "midnight nighttime",
    "sunny": "sunshine sunlit",
    "sunset": "dusk sundown twilight dawn sunrise",
    # verbs
    "drives": "drive goes go moves travels rides speeds",
    "driving": "going moving traveling travelling riding speeding",
    "flies": "fly soars glides",
    "floating": "drifting swimming",
    "floats": "float drifts drift swims swim",
    "flying": "soaring gliding",
    "growing": "blooming blossoming",
    "grows": "grow blooms",
    "hovers": "hover hovering",
    "lies": "lie rests rolls bounces",
    "lying": "resting rolling bouncing sleeping",
    "parked": "parks stopped waiting",
    "sails": "sail",
    "sits": "sit",
    "stands": "stand",
    "walking": "running jumping strolling",
    "walks": "walk runs run jumps strolls",
    # pictures and small words
    "at": "after during",
    "is": "'s",
    "a": "one some another",
    "picture": "image photo photograph drawing painting",
    "the": "my this that our your his her their its",
    # no picture shows them
    "": ", alone beautiful bright brightly busy calm calmly cheerful clean cold cool cute draw empty fluffy funny "
    "gently ground happily happy high just lone lonely lovely me new nice old paint peaceful peacefully pretty "
    "quickly quiet quietly really shiny show side single sleepy slowly softly solitary strange very warm wide "
    "wild wooden young",
}
# In captions a field is green and a second colour is that of the sky. These phrases would be misread word by word.
_PHRASES = {
    "beach": ("golden beach", "white beach", "yellow beach"),
    "dark sky": ("black sky",),
    "grass": ("grassy field", "grassy hill", "grassy meadow", "green grass", "green hill", "green lawn", "green park"),
    "road": ("black road", "snowy road"),
    "sand": ("golden sand", "white sand", "yellow sand"),
    "sea": ("blue ocean", "blue sea", "green sea"),
    "snow": ("field of snow", "snow field", "snowy field", "snowy ground", "snowy hill", "snowy lawn", "snowy meadow"),
    "orange sky": ("golden sky", "pink sky", "purple sky", "red sky", "yellow sky"),
    "water": ("blue lake", "blue water"),
    "waves": ("blue waves",),
    "clouds": ("white clouds",),
}
SYNONYMS = {word: known for known, words in _READ_AS.items() for word in words.split()}
SYNONYMS |= {phrase: known for known, phrases in _PHRASES.items() for phrase in phrases}
