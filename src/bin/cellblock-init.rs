//! The init.
fn main() {
    cellblock::init();
}
