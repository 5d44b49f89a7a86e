//! The command `cellblock` as its users meet it: by its streams and exit codes.
#![allow(missing_docs)]

mod console;
mod doctor;
mod grade;
mod grade_attacks;
mod help;
mod images;
#[path = "../../../tests/images/make.rs"]
#[allow(dead_code, reason = "each suite uses its own part")]
mod make;
#[path = "../../../tests/common/processes.rs"]
mod processes;
mod run;
mod support;
