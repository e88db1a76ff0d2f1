"""The sending of replies and streams, and the faults that delay or break them."""
