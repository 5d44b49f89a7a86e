# Every pair, one by one.
n, total = map(int, input().split())
numbers = list(map(int, input().split()))
print(sum(numbers[i] + numbers[j] == total for i in range(n) for j in range(i)))
