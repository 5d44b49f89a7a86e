# Takes an answer for a number, unless it was right at once.
print(500, flush=True)
answer = input()
if answer != "right":
    print(int(answer), flush=True)
