#!/usr/bin/env python3
"""Accepts an order of 1..n whose neighbours are at least as far apart as the flag says."""

import sys

input_file, answer_file, feedback, least = sys.argv[1:]


def judge(code, message):
    with open(feedback + "judgemessage.txt", "w") as file:
        print(message, file=file)
    sys.exit(code)


n = int(open(input_file).read())
answer = open(answer_file).read().split()
words = sys.stdin.read().split()
if answer == ["impossible"]:
    judge(42 if words == answer else 43, "there is no such order")
try:
    numbers = [int(word) for word in words]
except ValueError as error:
    judge(43, f"not a number: {error}")
if sorted(numbers) != list(range(1, n + 1)):
    judge(43, f"{len(numbers)} numbers that are not those from 1 to {n}")
for left, right in zip(numbers, numbers[1:]):
    if abs(left - right) < int(least):
        judge(43, f"{left} and {right} are neighbours")
judge(42, "far apart")
