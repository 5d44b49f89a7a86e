# Tries every order, the rising ones first.
from itertools import permutations

n = int(input())
for order in permutations(range(1, n + 1)):
    if all(abs(left - right) > 1 for left, right in zip(order, order[1:])):
        print(*order)
        break
else:
    print("impossible")
