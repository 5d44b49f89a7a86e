package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	input := bufio.NewReader(os.Stdin)
	var n, sum, number, pairs int
	fmt.Fscan(input, &n, &sum)
	seen := map[int]bool{}
	for ; n > 0; n-- {
		fmt.Fscan(input, &number)
		if seen[sum-number] {
			pairs++
		}
		seen[number] = true
	}
	fmt.Println(pairs)
}
