#include <stdio.h>
#include <stdlib.h>

static int order(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

int main(void) {
    long n, sum;
    if (scanf("%ld %ld", &n, &sum) != 2) return 1;
    long *numbers = malloc(n * sizeof *numbers);
    for (long i = 0; i < n; i++)
        if (scanf("%ld", &numbers[i]) != 1) return 1;
    qsort(numbers, n, sizeof *numbers, order);
    long pairs = 0;
    for (long low = 0, high = n - 1; low < high;) {
        long both = numbers[low] + numbers[high];
        if (both == sum) pairs++;
        if (both <= sum) low++;
        if (both >= sum) high--;
    }
    printf("%ld\n", pairs);
}
