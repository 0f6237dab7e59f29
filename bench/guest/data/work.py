# Python at its daily work: dictionaries, strings, objects, big numbers, a library in C.
import json
import re
import zlib


class Account:
    def __init__(self, number):
        self.number, self.balance = number, number * 7919 % 1000

    def move(self, other, amount):
        if self.balance >= amount:
            self.balance -= amount
            other.balance += amount


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


accounts = [Account(n) for n in range(1000)]
for i in range(120000):
    accounts[i % 1000].move(accounts[i * 31 % 1000], i % 17)
words = {}
for i in range(100000):
    word = "w%d" % (i * 7919 % 5003)
    words[word] = words.get(word, 0) + i
text = json.dumps(words)
print(sum(a.balance * a.number for a in accounts), len(words), zlib.crc32(text.encode()), len(re.findall(r"[0-9]+7\b", text)))
print(fib(21), pow(3, 200003) % 1000000007, sorted(words, key=words.get)[:5])
