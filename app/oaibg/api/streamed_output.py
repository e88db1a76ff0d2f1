"""What a stream has brought of a job's output: its finished items, and the text of each part.

With it, the emitted text is complete even if a server leaves out deltas, and a result that lacks
the output can be completed. It holds each item and text once, while its job is streamed.
"""

from __future__ import annotations

import math
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from oaibg.api.answer import COMMENTARY, is_commentary, is_emptier, parts_of, text_of
from oaibg.api.payload import WITH_OUTPUT, Payload
from oaibg.api.streamed_calls import StreamedCalls
from oaibg.base.json_text import objects, string

if TYPE_CHECKING:
    from oaibg.api.stream import StreamEvent


class StreamedOutput:
    """The output of one job; `from_start` is whether no earlier process has read some of it."""

    def __init__(self, *, from_start: bool) -> None:
        self._from_start = from_start
        self._has_gap = False
        self._items: dict[int, dict[str, Any]] = {}
        """The finished items by their place in the output."""
        self._parts: list[_Part] = []
        self._begun: set[int] = set()
        """The places of the items whose first event has been seen."""
        self._calls = StreamedCalls()
        self._refusals: dict[_Place, str] = {}
        self._commentary: set[object] = set()
        """The places and IDs of the unfinished messages that are commentary."""

    def note_loss(self) -> None:
        """Note that events are missing permanently, so that unfinished texts may lack some."""
        self._has_gap = True

    def take(self, event: StreamEvent) -> str | None:
        """Note an event; return the text that it adds to the text so far.

        Commentary adds none, as it is not part of the answer. Returns None if the text so far is
        not the beginning of a part's whole text.
        """
        place = _Place.of(event)
        part = event.get("part")
        match event.type:
            case "response.output_item.added":
                self._begin_item(place.output_index, event.get("item"))
            case "response.content_part.added":
                self._part(place, begins=True)
            case "response.output_text.delta" if isinstance(delta := event.get("delta"), str):
                return self._part(place).add(delta)
            case "response.output_text.done":
                return self._finish(place, event.get("text"))
            case "response.refusal.done":
                self._refuse(place, event.get("refusal"))
            case "response.content_part.done" if isinstance(part, dict):
                self._refuse(place, part.get("refusal"))
                return self._finish(place, text_of(part))
            case "response.output_item.done" if isinstance(item := event.get("item"), dict):
                return self._finish_item(place.output_index, item)
            case _:
                self._calls.take(event, place.output_index)
        return ""

    def exceeds(self, payload: Payload) -> bool:
        """Whether a job's result lacks output that the stream has brought."""
        checked = payload.status in WITH_OUTPUT
        return checked and is_emptier(payload.data.get("output"), self._output())

    def began_more(self, payload: Payload) -> bool:
        """Whether a job's result has fewer items than have begun."""
        items = objects(payload.data.get("output"))
        return payload.status in WITH_OUTPUT and len(items) < len(self._begun | self._items.keys())

    def restored(self, payload: Payload) -> Payload:
        """Return the result with the streamed output.

        Raises `ValueError` if it is nested too deeply.
        """
        # Parsed twice, because JSON can't represent some numbers of a stream.
        output = self._merged(objects(payload.data.get("output")))
        return Payload(Payload.of(payload.data | {"output": output}).raw, payload.request_id)

    def _merged(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The streamed output; if that lacks some of the result's, both."""
        streamed = self._output()
        if not is_emptier(streamed, output):
            return streamed
        merged = [*output]
        places = {_id_of(item): place for place, item in enumerate(output)}
        for index, item in enumerate(streamed):
            place = places.get(_id_of(item), index)
            if place >= len(output) or merged[place].get("type") != item.get("type"):
                merged.append(item)
            elif is_emptier([merged[place]], [item]):
                merged[place] = item
        return merged

    def _output(self) -> list[dict[str, Any]]:
        """The finished items, and the texts, refusals and calls that came by themselves."""
        done = list(self._items.values())
        loose = self._loose_messages(done)
        placed: list[tuple[int | None, dict[str, Any]]] = [
            (index, item)
            for index, item in self._items.items()
            if not loose or item.get("type") != "message" or _has_text(item)
        ]
        placed += loose + self._calls.without_item(done)
        return [item for _, item in sorted(placed, key=_order)]

    def _loose_messages(
        self, done: list[dict[str, Any]]
    ) -> list[tuple[int | None, dict[str, Any]]]:
        """The messages of texts and refusals that no finished item has.

        An unfinished text only counts if no finished item has any.
        """
        known = {text for item in done for text in _texts_of(item)}
        has_answer = any(_has_text(item) and not is_commentary(item) for item in done)
        contents = [
            (
                part.place,
                part.is_commentary,
                {"type": "output_text", "text": part.text, "annotations": []},
            )
            for part in self._parts
            if part.is_known(has_gap=self._has_gap)
            and not part.is_in_item
            and (part.text not in known if part.is_done else not has_answer)
        ]
        contents += [
            (place, False, {"type": "refusal", "refusal": refusal})
            for place, refusal in self._refusals.items()
            if refusal not in known
        ]
        messages: dict[object, tuple[int | None, dict[str, Any]]] = {}
        for place, is_comment, content in contents:
            new = (place.output_index, _message(place.item_id, is_commentary=is_comment))
            key = place.item_id if place.output_index is None else place.output_index
            messages.setdefault(key, new)[1]["content"].append(content)
        return list(messages.values())

    def _part(self, place: _Place, *, begins: bool = False, text: str | None = None) -> _Part:
        """The part at a place; `begins` is whether it begins now, `text` is its whole text.

        Some servers change an item's ID from event to event, and others reuse its place, so that an
        earlier part at the place may be a different one.
        """
        part = next((one for one in reversed(self._parts) if one.place.matches(place)), None)
        if part is not None and text is None:
            is_other = part.is_done or (begins and part.has_text)
        else:
            is_other = part is not None and part.is_done and part.differs(place, text)
        if part is None or is_other:
            is_whole = begins or self._from_start or place.output_index in self._begun
            is_commentary = not self._commentary.isdisjoint(place[:2])
            part = _Part(place, is_whole=is_whole, is_commentary=is_commentary)
            self._parts.append(part)
        return part

    def _finish(self, place: _Place, text: object) -> str | None:
        if not isinstance(text, str) or not text:
            return ""
        return self._part(place, text=text).finish(text)

    def _refuse(self, place: _Place, refusal: object) -> None:
        if isinstance(refusal, str) and refusal:
            self._refusals[place] = refusal

    def _begin_item(self, index: int | None, item: object) -> None:
        if index is not None:
            self._begun.add(index)
        if isinstance(item, dict):
            self._calls.begin(index, item)
            self._note_phase(index, item)

    def _note_phase(self, index: int | None, item: dict[str, Any], *, ends: bool = False) -> None:
        keys = {index, string(item.get("id"))} - {None}
        if is_commentary(item) and not ends:
            self._commentary |= keys
        else:
            self._commentary -= keys  # some servers reuse an item's place

    def _finish_item(self, index: int | None, item: dict[str, Any]) -> str | None:
        item_id = string(item.get("id"))
        self._note_phase(index, item)
        added: list[str | None] = []
        entries = parts_of(item) if item.get("type") == "message" else []
        for number, entry in enumerate(entries):
            if text := text_of(entry):
                part = self._part(_Place(index, item_id, number), text=text)
                added.append(part.finish(text, in_item=True))
        self._note_phase(index, item, ends=True)
        index = len(self._items) if index is None else index
        while (other := self._items.get(index)) is not None and not _is_same(item, other):
            index += 1  # some servers reuse an item's place
        self._items[index] = item
        return None if None in added else "".join(filter(None, added))


class _Place(NamedTuple):
    """Where a part is: its item's place and ID, as far as they are known, and its own place."""

    output_index: int | None
    item_id: str | None
    number: int

    @classmethod
    def of(cls, event: StreamEvent) -> Self:
        """Return the place that an event names."""
        index, number = event.get("output_index"), event.get("content_index")
        return cls(
            index if type(index) is int else None,
            string(event.get("item_id")),
            number if type(number) is int else 0,
        )

    def matches(self, other: _Place) -> bool:
        """Whether both may be the same part."""
        if self.number != other.number:
            return False
        if None not in (self.output_index, other.output_index):
            return self.output_index == other.output_index
        return None in (self.item_id, other.item_id) or self.item_id == other.item_id


class _Part:
    """One text of a message; `is_whole` is whether its beginning has been seen."""

    def __init__(self, place: _Place, *, is_whole: bool, is_commentary: bool) -> None:
        self.place, self.is_commentary = place, is_commentary
        self.is_done = self.is_in_item = False
        """Whether the text is whole, and whether a finished item has it."""
        self._is_whole = is_whole
        self._text: str | StringIO = StringIO()

    @property
    def text(self) -> str:
        """The text so far."""
        return self._text if isinstance(self._text, str) else self._text.getvalue()

    @property
    def has_text(self) -> bool:
        """Whether any text has come."""
        return self.is_done or (isinstance(self._text, StringIO) and self._text.tell() > 0)

    def is_known(self, *, has_gap: bool) -> bool:
        """Whether nothing of the text so far is missing."""
        return self.is_done or (self.has_text and self._is_whole and not has_gap)

    def differs(self, place: _Place, text: str | None) -> bool:
        """Whether a part with another text is not this one, because its item has another ID."""
        return place.item_id != self.place.item_id and text != self.text

    def add(self, delta: str) -> str:
        """Note more of the text; return what it adds to the answer."""
        if isinstance(self._text, StringIO):
            self._text.write(delta)
        return "" if self.is_commentary else delta

    def finish(self, text: str, *, in_item: bool = False) -> str | None:
        """Note the whole text; return what the deltas lack of it, None if they contradict it.

        Commentary adds nothing to the answer.
        """
        before, is_whole = self.text, self._is_whole
        self._text, self.is_done, self._is_whole, self.is_in_item = text, True, True, in_item
        if self.is_commentary or not is_whole:
            return ""  # without the beginning, an earlier process may have emitted it
        return text[len(before) :] if text.startswith(before) else None


def _message(item_id: str | None, *, is_commentary: bool) -> dict[str, Any]:
    message = {"type": "message", "role": "assistant", "status": "completed", "content": []}
    message |= {"phase": COMMENTARY} if is_commentary else {}
    return message if item_id is None else {"id": item_id, **message}


def _texts_of(item: dict[str, Any]) -> list[str]:
    """The texts and refusals of a message."""
    parts = parts_of(item) if item.get("type") == "message" else []
    found = [text for part in parts for text in (text_of(part), string(part.get("refusal")))]
    return [text for text in found if text]


def _has_text(item: dict[str, Any]) -> bool:
    return bool(_texts_of(item))


def _id_of(item: dict[str, Any]) -> str | None:
    return string(item.get("id"))


def _is_same(item: dict[str, Any], other: dict[str, Any]) -> bool:
    return item == other or (item.get("id") is not None and item["id"] == other.get("id"))


def _order(placed: tuple[int | None, dict[str, Any]]) -> float:
    return math.inf if placed[0] is None else placed[0]
