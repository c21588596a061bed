"""The font that draws a text: the one of all pictures and figures, or one of this machine that knows its letters.

DejaVu Sans comes with matplotlib, and knows the letters of Europe, Arabic, Hebrew and many signs, but none of Chinese,
Japanese, Korean, Thai or the scripts of India. For these a font of the machine is taken.
"""

import logging
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import matplotlib

ADVICE = 'install a font that has them, such as Noto Sans CJK, and draw again'
UNSEEN = ('Cf', 'Zl', 'Zp', 'Zs')
"""Categories of Unicode that need no letter: spaces, and marks of direction and of joining."""
NO_LETTERS = ('LastResort', 'Last Resort', 'Emoji')
"""Parts of the names of fonts that have boxes in place of letters, or coloured pictures, which are not drawn."""

_logger = logging.getLogger(__name__)


@cache
def house_font() -> str:
    """The file of DejaVu Sans."""
    return str(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf'))


def font_for(text: str) -> str | None:
    """The file of a font that has all letters of a text: DejaVu Sans if it has, or None if no font of this machine has.

    Args:
        text: In Unicode's composed form, as `composed` gives it: a font need not have parts of letters.
    """
    letters = frozenset(letter for letter in text if unicodedata.category(letter) not in (*UNSEEN, 'Cc'))
    return house_font() if letters <= _in_house_font() else _font_with(letters)


def composed(text: str) -> str:
    """A text with each letter in one piece, where Unicode has such: names of files on a Mac are in pieces."""
    return unicodedata.normalize('NFC', text)


def escaped(text: str) -> str:
    """A text with a code point in place of each letter that DejaVu Sans lacks: りんご is ``\\u308a\\u3093\\u3054``."""
    known = _in_house_font()
    return ''.join(
        letter if letter in known else letter.encode('unicode_escape', 'surrogatepass').decode() for letter in text
    )


def unreadable(texts: Iterable[str]) -> list[str]:
    """Those of some texts that no font of this machine draws."""
    return [text for text in texts if font_for(composed(text)) is None]


@cache
def say_what_is_escaped(text: str) -> None:
    """Log that no font draws a text, and what figures have in its place; once for each text."""
    _logger.warning(f"no font of this machine has the letters of '{text}': figures write code points; {ADVICE}")


@cache
def _in_house_font() -> frozenset[str]:
    return _letters_of(house_font())


@cache
def _font_with(letters: frozenset[str]) -> str | None:
    """The first font of the machine that has some letters, upright and sans serif ones before others."""
    # Making the list takes a moment where there are many fonts, and most texts do without.
    from matplotlib.font_manager import fontManager

    fonts = {one.fname: one for one in fontManager.ttflist if not any(part in one.name for part in NO_LETTERS)}
    ordered = sorted(
        fonts.values(),
        key=lambda one: ('Sans' not in one.name, one.style != 'normal', abs(_weight(one.weight) - 400), one.fname),
    )
    return next((one.fname for one in ordered if letters <= _letters_of(one.fname)), None)


def _weight(weight: int | str) -> int:
    return weight if isinstance(weight, int) else 400


@cache
def _letters_of(path: str) -> frozenset[str]:
    """The letters that a font has; none, if its file cannot be read at any size."""
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    try:
        ImageFont.truetype(path, 20)
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()
