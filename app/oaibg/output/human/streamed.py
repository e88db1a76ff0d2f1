"""A streamed answer: which of its blocks are complete, and which are on the screen."""

from __future__ import annotations

from oaibg.output.human.answer import last_block


class Streamed:
    """Cuts a growing text into Markdown blocks, so that each can be printed once it is complete."""

    def __init__(self) -> None:
        self.rest = ""
        """What has arrived and was not taken yet."""
        self._taken = ""

    @property
    def has_blocks(self) -> bool:
        """Whether some blocks were taken."""
        return bool(self._taken)

    def add(self, delta: str) -> None:
        """Add text that has arrived."""
        self.rest += delta

    def take_blocks(self) -> str:
        """Return the blocks that are complete, if there are new ones."""
        is_json = (self._taken or self.rest).lstrip()[:1] in ("{", "[")
        if is_json:
            return ""
        blocks = self.rest[: last_block(self.rest)]
        self._take(blocks)
        return blocks

    def take_rest(self) -> str:
        """Return all that was not taken yet."""
        rest = self.rest
        self._take(rest)
        return rest

    def take_end(self, answer: str) -> str:
        """Return what an answer adds to the blocks; all of it, if it doesn't begin with them."""
        is_whole = answer.startswith(self._taken)
        rest = answer[len(self._taken) :] if is_whole else answer
        self.rest, self._taken = "", answer
        return rest

    def _take(self, text: str) -> None:
        self._taken += text
        self.rest = self.rest[len(text) :]
