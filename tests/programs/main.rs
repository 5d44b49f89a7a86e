//! What a program gets, what it does not get, and how its run ends.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod descriptors;
mod hooks;
mod privileges;
mod runs;
mod streams;
mod terminals;
