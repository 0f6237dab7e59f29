#!/usr/bin/env python3
"""repack.py BZIMAGE lz4|gzip|xz|zstd|elf OUT: the same kernel with its payload packed otherwise, or its ELF file alone.

Reads the payload's place from the setup header ("The Linux/x86 Boot Protocol": payload_offset, payload_length) and
appends the new payload to the image, where the changed header points.
"""
import struct, subprocess, sys


def command(argv, data):
    return subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=True).stdout


source, kind, target = sys.argv[1:]
image = bytearray(open(source, "rb").read())
start = (image[0x1f1] + 1) * 512
offset, length = struct.unpack_from("<II", image, 0x248)
payload = bytes(image[start + offset:start + offset + length])
if payload[:4] == b"\x02\x21\x4c\x18":
    # lz4's legacy frame takes no trailing size
    elf = command(["lz4", "-dc"], payload[:-4])
elif payload[:2] == b"\x1f\x8b":
    elf = command(["gzip", "-dc"], payload)
elif payload[:6] == b"\xfd7zXZ\0":
    elf = command(["xz", "-dc"], payload[:-4])
else:
    elf = command(["zstd", "-dc"], payload[:-4])
if kind == "elf":
    open(target, "wb").write(elf)
    sys.exit()
packed = {
    "lz4": lambda: command(["lz4", "-l", "-1", "-c"], elf),
    "gzip": lambda: command(["gzip", "-1", "-c"], elf),
    "xz": lambda: command(["xz", "--check=crc32", "--x86", "--lzma2=preset=0", "-c"], elf),
    "zstd": lambda: command(["zstd", "-1", "-q", "-c"], elf),
}[kind]()
if kind != "gzip":
    packed += struct.pack("<I", len(elf))
struct.pack_into("<II", image, 0x248, len(image) - start, len(packed))
open(target, "wb").write(bytes(image) + packed)
