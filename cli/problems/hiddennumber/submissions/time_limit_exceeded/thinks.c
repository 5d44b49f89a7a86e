/* Knows where the middle is, and then thinks about it for ever. */
#include <stdio.h>

int main(void) {
    char answer[10];
    puts("500");
    fflush(stdout);
    if (scanf("%9s", answer) != 1) return 1;
    for (volatile long thought = 0; answer[0] != 'r'; thought++) {}
}
