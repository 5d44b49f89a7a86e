// What C++ programs usually need of their surroundings.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <locale>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

int main() {
    std::vector<std::future<int>> parts;
    for (int i = 0; i < 4; i++)
        parts.push_back(std::async(std::launch::async, [i] { return i * 7; }));
    int sum = 0;
    for (auto &part : parts)
        sum += part.get();
    std::cout << "async " << sum << "\n";

    auto directory = std::filesystem::temp_directory_path();
    std::ofstream(directory / "file") << "content";
    if (std::filesystem::file_size(directory / "file") == 7)
        std::cout << "temporary directory " << directory.string() << "\n";

    std::cout << "locale " << std::locale("C.UTF-8").name() << "\n";

    std::random_device device;
    std::mt19937 generator(device());
    std::vector<int> numbers(100000);
    for (auto &number : numbers)
        number = static_cast<int>(generator());
    std::cout << "random\n";
    std::sort(numbers.begin(), numbers.end());
    if (std::is_sorted(numbers.begin(), numbers.end()) && std::thread::hardware_concurrency() > 0)
        std::cout << "sorted" << std::endl;
}
