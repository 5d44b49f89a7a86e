# Plain values as bytes, for both sides of the pipe. Decoding makes plain values only: it looks up
# no name and calls nothing of the solution.
import os
import sys

# The most bytes of a message.
LIMIT = 8 << 20
CONSTANTS = {b"N": None, b"T": True, b"F": False}
SEQUENCES = {b"l": list, b"t": tuple, b"S": set, b"Z": frozenset, b"I": iter}


def encode(value, write):
    for kind, constant in CONSTANTS.items():
        if value is constant:
            return write(kind)
    if isinstance(value, int):
        write(b"i%x\n" % value)
    elif isinstance(value, float):
        write(b"f%s\n" % float.hex(value).encode())
    elif isinstance(value, complex):
        write(b"c")
        encode(value.real, write)
        encode(value.imag, write)
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        write(b"s%d\n" % len(data) + data)
    elif isinstance(value, (bytes, bytearray)):
        write(b"b%d\n" % len(value) + value)
    elif isinstance(value, dict):
        write(b"d%d\n" % len(value))
        for key, item in value.items():
            encode(key, write)
            encode(item, write)
    elif hasattr(value, "__iter__"):
        types = {b"l": list, b"t": tuple, b"S": set, b"Z": frozenset}
        kind = next((kind for kind, it in types.items() if isinstance(value, it)), b"I")
        items = list(value)
        write(b"%s%d\n" % (kind, len(items)))
        for item in items:
            encode(item, write)
    else:
        raise TypeError(f"a value of type {type(value).__name__} cannot be checked")


class Source:
    def __init__(self, fd):
        self.stream = os.fdopen(fd, "rb")
        self.left = LIMIT

    def read(self, count):
        if not 0 <= count <= self.left:
            raise ValueError("a message is too long")
        data = self.stream.read(count)
        if len(data) < count:
            raise EOFError
        self.left -= count
        return data

    def line(self):
        data = self.stream.readline(self.left)
        if not data.endswith(b"\n"):
            raise EOFError
        self.left -= len(data)
        return data[:-1]


def decode(source):
    kind = source.read(1)
    if kind in CONSTANTS:
        return CONSTANTS[kind]
    if kind == b"c":
        return complex(decode(source), decode(source))
    text = source.line()
    if kind == b"i":
        return int(text, 16)
    if kind == b"f":
        return float.fromhex(text.decode())
    if kind == b"s":
        return source.read(int(text)).decode("utf-8", "surrogatepass")
    if kind == b"b":
        return source.read(int(text))
    if kind == b"d":
        return {decode(source): decode(source) for _ in range(int(text))}
    return SEQUENCES[kind]([decode(source) for _ in range(int(text))])


