# Takes the sum's line for one number.
n = int(input())
print(n)
