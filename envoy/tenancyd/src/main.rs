//! tenancyd

fn main() {}
