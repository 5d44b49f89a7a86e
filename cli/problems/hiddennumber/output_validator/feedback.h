// Ends a validator with its judgement and a message.
#pragma once
#include <cstdlib>
#include <fstream>
#include <string>

class Feedback {
    std::string dir;

    template <class... Words> [[noreturn]] void end(int code, Words... words) {
        std::ofstream message(dir + "judgemessage.txt");
        (message << ... << words) << '\n';
        message.close();
        std::exit(code);
    }

public:
    explicit Feedback(const char *dir) : dir(dir) {}
    template <class... Words> [[noreturn]] void right(Words... words) { end(42, words...); }
    template <class... Words> [[noreturn]] void wrong(Words... words) { end(43, words...); }
};
