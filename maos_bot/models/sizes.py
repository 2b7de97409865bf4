"""How many tokens a turn is about, before anybody has counted (pure)."""

from __future__ import annotations

import json
from typing import Final

from maos_bot.models.protocol import Answered, Asked, Turn

_CHARACTERS: Final = 3.5  # a token, in English and code; fewer than usual, so that the estimate is rather too high
_FRAME: Final = 8  # tokens around each message


def estimated_tokens(turn: Turn, *, prefix: bool = True) -> int:
    """Input tokens of `turn`; without `prefix` those alone that aren't read from the cache once it is written."""
    size = len(turn.system)
    if prefix:
        size += len(turn.prefix)
        size += sum(len(tool.name) + len(tool.description) + len(json.dumps(dict(tool.schema))) for tool in turn.tools)
    for message in turn.messages:
        size += round(_FRAME * _CHARACTERS)
        if isinstance(message, Asked):
            size += len(message.text)
        elif isinstance(message, Answered):
            size += len(message.text) + sum(len(call.name) + len(json.dumps(call.raw)) for call in message.calls)
        else:
            size += sum(len(result.text) for result in message.results)
    return max(1, round(size / _CHARACTERS))
