//! A function that runs before `main`.
//!
//! Invariant: the C library calls it once, on the only thread that this program has started so far,
//! in every executable and shared library that links this crate.

/// Has the C library call a function before `main`, as glibc and musl do with the functions of
/// `.init_array`. The number is the earliest that a program may take: no constructor of the program
/// runs before.
///
/// The linker leaves out a static of a library that no other code refers to. Therefore the macro
/// defines a function `keep`, which code of the library that every user calls has to call.
macro_rules! before_main {
    ($function:path) => {
        #[used]
        #[allow(unsafe_code)]
        // SAFETY: the section is a list of pointers to functions of the C ABI, which take arguments
        // that this one ignores. A panic in it ends the process.
        #[unsafe(link_section = ".init_array.00101")]
        static BEFORE_MAIN: extern "C" fn() = {
            extern "C" fn before_main() {
                $function();
            }
            before_main
        };

        /// Keeps the function in the executable.
        pub(crate) fn keep() {
            std::hint::black_box(&BEFORE_MAIN);
        }
    };
}

pub(crate) use before_main;
