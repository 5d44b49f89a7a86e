// Answers questions about the number in the case's input, and counts them.
#include "feedback.h"
#include <iostream>

int main(int, char **args) {
    long hidden, guess;
    std::ifstream(args[1]) >> hidden;
    Feedback feedback(args[3]);
    for (int questions = 1; questions <= 10; questions++) {
        if (!(std::cin >> guess)) feedback.wrong("no number after ", questions - 1, " questions");
        if (guess < 1 || guess > 1000) feedback.wrong(guess, " is not from 1 to 1000");
        if (guess == hidden) {
            std::cout << "right" << std::endl;
            std::string more;
            if (std::cin >> more) feedback.wrong("\"", more, "\" after the end");
            feedback.right(questions, " questions");
        }
        std::cout << (hidden < guess ? "lower" : "higher") << std::endl;
    }
    feedback.wrong("10 questions were not enough");
}
