//! The filters of both architectures in an interpreter, and this architecture's filter in the
//! kernel.

mod calls;
mod kernel;
mod machine;
mod numbers;
