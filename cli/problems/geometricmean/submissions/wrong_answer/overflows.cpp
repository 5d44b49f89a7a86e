// The product of many numbers is infinite, and a mean of that is no number of the format.
#include <cmath>
#include <cstdio>

int main() {
    int n;
    double number, product = 1;
    if (scanf("%d", &n) != 1) return 1;
    for (int i = 0; i < n && scanf("%lf", &number) == 1; i++) product *= number;
    printf("mean %.9f\n", std::pow(product, 1.0 / n));
}
