//! upstream

fn main() {}
