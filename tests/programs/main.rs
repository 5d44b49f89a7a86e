//! What a program gets from its command and its container, and how its run ends.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod descriptors;
mod hooks;
mod privileges;
mod runs;
mod spellings;
mod streams;
mod terminals;
mod world;
