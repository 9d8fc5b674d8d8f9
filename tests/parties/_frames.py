"""Frames of WebSocket as clients send them, and as they must not: drawn from a generator that was given its seed."""

import struct

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RESERVED = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]
# Around each step of the length's encoding (RFC 6455 §5.2).
SIZES = [0, 1, 2, 7, 125, 126, 127, 128, 1000, 65535, 65536]
CODES = [0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1015, 1016, 2999, 3000, 4999, 5000, 65535]
TEXTS = ["", "x", "two words", "žluťoučký kůň", "日本語", "\U0001f600" * 3, "\x00\x7f"]
NOT_TEXTS = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok\x80", "ž".encode()[:1], b"\xf0\x9f\x98"]


def frame(opcode, payload=b"", *, fin=True, rsv=0, key=b"\x37\xfa\x21\x3d", length=None, form=None):
    """One frame. Without `key` it is not masked; `length` and `form` (7, 16 or 64 bits) may lie."""
    length = len(payload) if length is None else length
    if form is None:
        form = 7 if length < 126 else 16 if length < 65536 else 64
    head = bytes([fin << 7 | rsv << 4 | opcode])
    masked = 0x80 if key else 0
    if form == 7:
        head += bytes([masked | length])
    elif form == 16:
        head += bytes([masked | 126]) + struct.pack("!H", length)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", length)
    if key:
        repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
        payload = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))
    return head + (key or b"") + payload


def message(random):
    """A whole message that is right: one frame, or several with control frames between them."""
    kind = random.choice([TEXT, BINARY])
    if kind == TEXT:
        data = random.choice(TEXTS).encode() * random.choice([1, 1, 5, 40])
    else:
        data = random.randbytes(random.choice(SIZES) if random.random() < 0.2 else random.randrange(300))
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice([0, 0, 0, 1, 2, 5])))
    parts = [data[begin:end] for begin, end in zip([0] + cuts, cuts + [len(data)])]
    frames = []
    for n, part in enumerate(parts):
        frames.append(frame(CONT if n else kind, part, fin=n == len(parts) - 1, key=random.randbytes(4)))
        if random.random() < 0.2:
            frames.append(control(random))
    return frames


def control(random):
    return frame(random.choice([PING, PONG]), random.randbytes(random.choice([0, 1, 20, 125])), key=random.randbytes(4))


def close(random):
    code = random.choice(CODES)
    reason = random.choice([b"", b"", b"bye", b"r" * 123, random.choice(NOT_TEXTS)])
    return frame(CLOSE, random.choice([b"", b"\x03", struct.pack("!H", code) + reason]), key=random.randbytes(4))


def wrong(random):
    """Frames of which at least one is not allowed."""
    payload = random.randbytes(random.randrange(20))
    return random.choice(
        [
            lambda: [frame(random.choice([TEXT, BINARY, PING]), payload, rsv=random.randrange(1, 8))],
            lambda: [frame(random.choice(RESERVED), payload, fin=random.random() < 0.5)],
            lambda: [frame(random.choice([PING, PONG, CLOSE]), payload, fin=False)],
            lambda: [frame(random.choice([PING, PONG, CLOSE]), random.randbytes(126))],
            lambda: [frame(random.choice([TEXT, BINARY, PING, CLOSE]), payload, key=None)],
            lambda: [frame(CONT, payload, fin=random.random() < 0.5)],
            lambda: [frame(TEXT, b"one", fin=False), frame(random.choice([TEXT, BINARY]), b"two")],
            lambda: [frame(TEXT, b"good " + random.choice(NOT_TEXTS))],
            lambda: [frame(TEXT, b"good", fin=False), frame(CONT, random.choice(NOT_TEXTS))],
            lambda: [frame(BINARY, payload, form=random.choice([16, 64]))],
            lambda: [frame(PING, payload, form=random.choice([16, 64]))],
            lambda: [frame(BINARY, payload, length=random.choice([1 << 17 | 1, 1 << 32, (1 << 63) - 1]), form=64)],
            lambda: [frame(BINARY, payload, length=random.choice([1 << 63, (1 << 64) - 1]), form=64)],
            lambda: [frame(BINARY, random.randbytes(70_000), fin=False), frame(CONT, random.randbytes(70_000))],
            lambda: [random.randbytes(random.randrange(1, 200))],
        ]
    )()


def conversation(random):
    """All that a client sends, in frames: some messages, perhaps something wrong, and perhaps an end."""
    frames = []
    for _ in range(random.randrange(5)):
        frames += message(random) if random.random() < 0.7 else [control(random)]
    if random.random() < 0.6:
        frames += wrong(random)
    if random.random() < 0.3:
        frames += message(random)
    if random.random() < 0.7:
        frames.append(close(random))
    if random.random() < 0.1:
        # What comes after the end is nobody's.
        frames += message(random)
    if frames and random.random() < 0.1:
        frames[-1] = frames[-1][: random.randrange(len(frames[-1]))]
    return frames
