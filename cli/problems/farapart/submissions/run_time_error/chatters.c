/* Does not know when to stop. */
#include <stdio.h>

int main(void) {
    int n = 0;
    if (scanf("%d", &n) != 1) return 1;
    if (n == 1) puts("1");
    if (n == 2 || n == 3) puts("impossible");
    while (n > 3) puts("2 4 1 3");
}
