"""Frames that are read the short way say the same as by autobahn's."""

from __future__ import annotations

from autobahn.websocket.xormasker import create_xor_masker
from hypothesis import given
from hypothesis import strategies as st

from chatsite.serving.websocket import unmask


@given(st.binary(max_size=125), st.binary(min_size=4, max_size=4))
def test_a_small_frame_is_unmasked_as_rfc_6455_says(payload: bytes, mask: bytes) -> None:
    masked = create_xor_masker(mask, len(payload)).process(payload)

    assert unmask(bytes((0x82, 0x80 + len(payload))) + mask + masked) == payload
