# Looks for the root in steps that are too small for large means.
n = int(input())
numbers = [float(word) for word in input().split()]
mean = 0.0
while True:
    product = 1.0
    for number in numbers:
        product *= mean / number
    if product >= 1:
        break
    mean += 2e-7
print("mean", mean)
