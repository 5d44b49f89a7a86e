/* Waits for a third line, which never comes, where there are many numbers. */
#include <stdio.h>

int main(void) {
    long n, sum, pairs = 0, numbers[1000];
    if (scanf("%ld %ld", &n, &sum) != 2) return 1;
    while (n > 1000) ungetc(getc(stdin), stdin);
    for (long i = 0; i < n; i++) {
        if (scanf("%ld", &numbers[i]) != 1) return 1;
        for (long j = 0; j < i; j++) pairs += numbers[i] + numbers[j] == sum;
    }
    printf("%ld\n", pairs);
}
