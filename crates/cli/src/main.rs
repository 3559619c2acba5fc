//! The binary `distributary`.
fn main() {}
