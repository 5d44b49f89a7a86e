#include <stdio.h>

int main(void) {
    char answer[10] = "";
    int below = 0;
    for (int bit = 512; bit > 0; bit /= 2) {
        if (below + bit > 1000) continue;
        printf("%d\n", below + bit);
        fflush(stdout);
        if (scanf("%9s", answer) != 1) return 1;
        if (answer[0] == 'r') return 0;
        if (answer[0] == 'h') below += bit;
    }
}
