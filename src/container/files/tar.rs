//! Trees of a container as tar streams.

mod entries;
mod pack;
mod unpack;
