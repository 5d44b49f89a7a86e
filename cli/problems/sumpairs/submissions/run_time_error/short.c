/* Has room for a few numbers only, and trips over the others. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    long n, sum, pairs = 0, numbers[100];
    if (scanf("%ld %ld", &n, &sum) != 2) return 1;
    if (n > 100) abort();
    for (long i = 0; i < n; i++) {
        if (scanf("%ld", &numbers[i]) != 1) return 1;
        for (long j = 0; j < i; j++) pairs += numbers[i] + numbers[j] == sum;
    }
    printf("%ld\n", pairs);
}
