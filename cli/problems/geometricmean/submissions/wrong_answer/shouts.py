from math import exp, log

input()
numbers = [float(word) for word in input().split()]
print("MEAN", exp(sum(map(log, numbers)) / len(numbers)))
