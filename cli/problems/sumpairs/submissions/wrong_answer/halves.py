# A number is no pair with itself.
n, total = map(int, input().split())
numbers = set(map(int, input().split()))
print(sum(total - number in numbers for number in numbers) // 2 + (total % 2 == 0 and total // 2 in numbers))
