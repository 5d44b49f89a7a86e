#pragma once
#include <vector>

long pairs(const std::vector<long> &numbers, long sum);
