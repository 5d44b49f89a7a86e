/* A place for every number that there could be, and all of them set. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    long n, sum, pairs = 0, number, span = 2000000001L;
    char *seen = malloc(span);
    if (scanf("%ld %ld", &n, &sum) != 2 || !seen) return 1;
    memset(seen, 1, span);
    for (long i = 0; i < n; i++) {
        if (scanf("%ld", &number) != 1) return 1;
        pairs += seen[number + span / 2];
    }
    printf("%ld\n", pairs);
}
