from math import exp, log

input()
numbers = [float(word) for word in input().split()]
print("mean", exp(sum(map(log, numbers)) / len(numbers)))
