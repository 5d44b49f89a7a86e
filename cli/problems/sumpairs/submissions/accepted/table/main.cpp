#include "pairs.h"
#include <iostream>

int main() {
    std::size_t n;
    long sum;
    std::cin >> n >> sum;
    std::vector<long> numbers(n);
    for (long &number : numbers) std::cin >> number;
    std::cout << pairs(numbers, sum) << '\n';
}
