#include "pairs.h"
#include <unordered_set>

long pairs(const std::vector<long> &numbers, long sum) {
    std::unordered_set<long> seen;
    long found = 0;
    for (long number : numbers) {
        found += seen.count(sum - number);
        seen.insert(number);
    }
    return found;
}
