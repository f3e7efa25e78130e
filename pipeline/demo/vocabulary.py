"""What the demo world is made of: subjects, places, motions, and the words people use for them."""

from __future__ import annotations

from dataclasses import dataclass

COLOURS: dict[str, tuple[tuple[int, int, int], tuple[str, ...]]] = {
    "red": ((214, 40, 40), ("red", "crimson", "scarlet")),
    "orange": ((245, 135, 30), ("orange", "amber", "tangerine")),
    "yellow": ((250, 222, 50), ("yellow", "golden", "lemon")),
    "green": ((40, 165, 70), ("green", "emerald", "leaf-green")),
    "blue": ((40, 90, 215), ("blue", "navy", "azure")),
    "purple": ((130, 60, 175), ("purple", "violet", "plum")),
    "pink": ((245, 140, 190), ("pink", "rose", "rosy")),
    "white": ((245, 245, 245), ("white", "ivory", "snowy")),
}

SHAPES: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "disc", "circle"),
    "box": ("box", "square", "block"),
    "triangle": ("triangle", "wedge"),
    "star": ("star",),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop", "donut"),
    "heart": ("heart",),
    "crescent": ("crescent", "half moon"),
}

PLACES: dict[str, tuple[str, ...]] = {
    "sky": ("in the sky", "among the clouds", "up in the cloudy sky"),
    "sea": ("on the sea", "over the waves", "out on the water"),
    "forest": ("in the forest", "among the trees", "in the woods"),
    "desert": ("in the desert", "over the dunes", "on the sand"),
    "night": ("in the night sky", "under the stars", "at night"),
    "city": ("in the city", "before the buildings", "downtown"),
    "snow": ("in the snow", "over the snowfield", "on a snowy plain"),
    "wall": ("before a brick wall", "in front of the bricks", "by the brick wall"),
}


@dataclass(frozen=True)
class Motion:
    """A cyclic motion: a pose that repeats `rate` times a second, backwards when negative.

    `pose` names a function of the phase alone (`render.POSES`), so two motions of one pose show the same stills in another
    order or at another speed; `opposite` is that other motion. Rates around one cycle a second meet the demo's grid of
    one still a second like a wagon wheel meets a camera: neighbouring stills say nothing about the direction either.
    `phrases` are (finite, participle) pairs.
    """

    pose: str
    rate: tuple[float, float]
    opposite: str
    phrases: tuple[tuple[str, str], ...]


_ONE, _SLOW, _FAST = (0.75, 1.25), (0.75, 1.25), (2.4, 3.2)

MOTIONS: dict[str, Motion] = {
    "right": Motion(
        "cross",
        _ONE,
        "left",
        (
            ("moves to the right", "moving to the right"),
            ("slides from left to right", "sliding from left to right"),
            ("heads right", "heading right"),
        ),
    ),
    "left": Motion(
        "cross",
        (-1.25, -0.75),
        "right",
        (
            ("moves to the left", "moving to the left"),
            ("slides from right to left", "sliding from right to left"),
            ("heads left", "heading left"),
        ),
    ),
    "up": Motion("climb", _ONE, "down", (("rises", "rising"), ("moves upwards", "moving upwards"), ("floats up", "floating up"))),
    "down": Motion(
        "climb", (-1.25, -0.75), "up", (("falls", "falling"), ("moves downwards", "moving downwards"), ("sinks down", "sinking down"))
    ),
    "spin_right": Motion(
        "spin",
        _ONE,
        "spin_left",
        (("spins clockwise", "spinning clockwise"), ("turns clockwise on the spot", "turning clockwise on the spot")),
    ),
    "spin_left": Motion(
        "spin",
        (-1.25, -0.75),
        "spin_right",
        (
            ("spins counter-clockwise", "spinning counter-clockwise"),
            ("turns anticlockwise on the spot", "turning anticlockwise on the spot"),
        ),
    ),
    "grow": Motion("swell", _ONE, "shrink", (("grows", "growing"), ("gets bigger", "getting bigger"), ("swells up", "swelling up"))),
    "shrink": Motion(
        "swell", (-1.25, -0.75), "grow", (("shrinks", "shrinking"), ("gets smaller", "getting smaller"), ("dwindles", "dwindling"))
    ),
    "orbit_right": Motion(
        "orbit",
        _ONE,
        "orbit_left",
        (("circles around clockwise", "circling around clockwise"), ("goes round and round clockwise", "going round and round clockwise")),
    ),
    "orbit_left": Motion(
        "orbit",
        (-1.25, -0.75),
        "orbit_right",
        (
            ("circles around counter-clockwise", "circling around counter-clockwise"),
            ("goes round and round anticlockwise", "going round and round anticlockwise"),
        ),
    ),
    "blink_fast": Motion(
        "blink",
        _FAST,
        "blink_slow",
        (("blinks quickly", "blinking quickly"), ("flickers", "flickering"), ("flashes fast", "flashing fast")),
    ),
    "blink_slow": Motion(
        "blink", _SLOW, "blink_fast", (("blinks slowly", "blinking slowly"), ("glows on and off slowly", "glowing on and off slowly"))
    ),
    "shake": Motion(
        "sway",
        _FAST,
        "sway",
        (("shakes", "shaking"), ("trembles quickly", "trembling quickly"), ("jitters from side to side", "jittering from side to side")),
    ),
    "sway": Motion(
        "sway",
        _SLOW,
        "shake",
        (
            ("sways gently", "swaying gently"),
            ("swings slowly", "swinging slowly"),
            ("rocks calmly from side to side", "rocking calmly from side to side"),
        ),
    ),
}
