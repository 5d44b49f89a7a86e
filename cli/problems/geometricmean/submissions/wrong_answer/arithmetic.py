input()
numbers = [float(word) for word in input().split()]
print("mean", sum(numbers) / len(numbers))
