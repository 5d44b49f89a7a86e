//! The programs that come with the library, as a user or another program meets them: by their streams and exit codes.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

use common::examples::{example, stderr, stdout};

#[test]
fn hello_prints_the_answer() {
    let output = example("hello").output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "42\n"), "{}", stderr(&output));
}
