"""Which texts are blank: nothing in them that a reader, or a model, could see."""

import re

# White space, control and format characters (Unicode's categories Z, Cc, Cf), and the letters and
# marks that are never shown. Models drop all of them, so that such texts differ in nothing.
_HIDDEN = (
    r"\s\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    r"\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800"
    r"\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
_HIDDEN_BEYOND = (
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
SOMETHING = re.compile(f"[^{_HIDDEN}{_HIDDEN_BEYOND}]")
# The same for JSON Schema, whose regular expressions know no code points above U+FFFF.
PATTERN = f"[^{_HIDDEN}]"
