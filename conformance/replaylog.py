"""Reads a replay log from its description (lora/replay), to rebuild adapters without the project's own code."""

import json
import struct

POLY = 0x82F63B78  # CRC-32C, reflected


def table():
    out = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (POLY if i & 1 else 0)
        out.append(i)
    return out


TABLE = table()


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for b in data:
        crc = TABLE[(crc ^ b) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(b, at):
    value = shift = 0
    while True:
        value |= (b[at] & 127) << shift
        shift += 7
        at += 1
        if not b[at - 1] & 128:
            return value, at


def read(path):
    """(configuration, [(step, seeds, coefficients)]); every checksum is checked."""
    b = open(path, "rb").read()
    assert b[:8] == b"TTREPLAY"
    version, n = struct.unpack_from("<II", b, 8)
    assert version == 1
    config = json.loads(b[16:16 + n])
    at = 16 + n
    crc, = struct.unpack_from("<I", b, at)
    assert crc == crc32c(b[:at])
    at += 4
    records, before = [], 0
    while at < len(b):
        start = at
        m, at = varint(b, at)
        end = at + m
        crc = crc32c(struct.pack("<I", crc) + b[start:end])
        assert crc == struct.unpack_from("<I", b, end)[0], f"checksum of record {len(records)}"
        step, at = varint(b, at)
        k, at = varint(b, at)
        seeds = []
        for _ in range(k):
            z, at = varint(b, at)
            before = (before + (z >> 1 ^ -(z & 1))) & (1 << 64) - 1
            seeds.append(before)
            before += 1
        records.append((step, seeds, struct.unpack_from(f"<{k}f", b, at)))
        assert at + 4 * k == end
        at = end + 4
    return config, records
