# Keeps everything that it could ever need.
n = int(input())
hoard = []
while n > 3:
    hoard.append(bytearray(1 << 24))
print(1 if n == 1 else "impossible")
