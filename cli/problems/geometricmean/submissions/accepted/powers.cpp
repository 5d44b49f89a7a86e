#include <cmath>
#include <cstdio>

int main() {
    int n;
    double number, mean = 1;
    if (scanf("%d", &n) != 1) return 1;
    for (int i = 0; i < n && scanf("%lf", &number) == 1; i++) mean *= std::pow(number, 1.0 / n);
    printf("mean %.9e\n", mean);
}
