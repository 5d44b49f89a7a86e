# The product of many numbers is more than a float can be.
n = int(input())
product = 1
for word in input().split():
    product *= int(float(word) * 1000)
print("mean", float(product) ** (1 / n) / 1000)
