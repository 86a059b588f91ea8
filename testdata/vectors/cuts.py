#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes cuts.txt: a second implementation of "Cuts", from docs/formats/repository.md alone."""
import hashlib, hmac, struct, subprocess

MIN, AVERAGE, MAX, WINDOW = 16384, 32768, 262144, 64


def transcript(purpose, *fields):
    label = b"holdfast/v1/" + purpose
    return bytes([len(label)]) + label + b"".join(struct.pack("<I", len(f)) + f for f in fields)


def hkdf(key, info, n):
    prk = hmac.new(bytes(32), key, hashlib.sha256).digest()
    out, t, i = b"", b"", 1
    while len(out) < n:
        t = hmac.new(prk, t + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + t, i + 1
    return out[:n]


def mod(a, f):
    while a.bit_length() >= f.bit_length():
        a ^= f << (a.bit_length() - f.bit_length())
    return a


def square(a):
    return int("0".join(bin(a)[2:]), 2)


def gcd(a, b):
    while b:
        a, b = b, mod(a, b)
    return a


def irreducible(f):  # Rabin's test: the only prime that divides 64 is 2
    x = 2
    for i in range(1, 65):
        x = mod(square(x), f)
        if i == 32 and gcd(f, x ^ 2) != 1:
            return False
    return x == 2


def polynomial(key):
    n = 0
    while True:
        c = int.from_bytes(hkdf(key, transcript(b"chunker-hash", struct.pack("<I", n)), 8), "little") | 1
        if irreducible(1 << 64 | c):
            return 1 << 64 | c
        n += 1


def aes_ecb(key, blocks):
    return subprocess.run(["openssl", "enc", "-aes-128-ecb", "-nopad", "-K", key.hex()], input=blocks,
                          stdout=subprocess.PIPE, check=True).stdout


def digests(f, data):
    """d[i] for i from 64: of data[i - 64 : i]."""
    push = [mod(t << 64, f) for t in range(256)]
    leave = [mod(t << 512, f) for t in range(256)]
    h, out = 0, {}
    for i, b in enumerate(data):
        h = ((h << 8) & (2**64 - 1) | b) ^ push[h >> 56]
        if i >= WINDOW:
            h ^= leave[data[i - WINDOW]]
        out[i + 1] = h
    return out


def cuts(f, prf, data):
    d = digests(f, data)
    stream = aes_ecb(prf, b"".join(struct.pack("<QQ", d[i], 0) for i in range(WINDOW, len(data))))
    hit = [struct.unpack_from("<Q", stream, 16 * k)[0] < 2**64 // AVERAGE for k in range(len(stream) // 16)]
    out, start = [], 0
    while start < len(data):
        end = min(len(data), start + MAX)
        cut = next((i for i in range(start + MIN + 1, end) if hit[i - WINDOW]), end)
        out.append(cut - start)
        start = cut
    return out


def counter(size):
    return b"".join(hashlib.sha256(struct.pack("<Q", i)).digest() for i in range(size // 32 + 1))[:size]


def main():
    with open("cuts.txt", "w") as o:
        o.write("# Cuts (docs/formats/repository.md). Written by cuts.py.\n"
                "# counter: SHA-256(u64 0) ‖ SHA-256(u64 1) ‖ ..; zeros: bytes 0; both cut off at the size.\n")
        for first in (0, 100):
            key = bytes(range(first, first + 32))
            f, prf = polynomial(key), hkdf(key, transcript(b"chunker-prf"), 16)
            window = counter(WINDOW)
            o.write(f"key {key.hex()}\npolynomial {f - (1 << 64):016x}\nprf {prf.hex()}\n")
            o.write(f"digest counter {digests(f, window)[WINDOW]:016x}\n")
            o.write("block %s\n" % aes_ecb(prf, struct.pack("<QQ", digests(f, window)[WINDOW], 0)).hex())
            for name, data in (("counter", counter(1000000)), ("zeros", bytes(600000))):
                o.write("cuts %s %d %s\n" % (name, len(data), " ".join(map(str, cuts(f, prf, data)))))


main()
