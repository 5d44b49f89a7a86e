# Does not flush its second question, so both wait for each other, until the clock says that it is enough.
import sys

print(500, flush=True)
if sys.stdin.readline() == "lower\n":
    print(250)
    sys.stdin.readline()
