"""Where the sentence vector of an imported query comes from."""

from typing import Literal

# auto: its file of sentences where there is one, nothing for MS-SL, else the last token (importing.py).
Teacher = Literal["auto", "sentences", "last_token", "last_row", "none"]
