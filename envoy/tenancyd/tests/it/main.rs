//! What a client and an operator of the real binary see.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "a sum that overflows fails the test, as it should"))]

#[cfg(test)]
mod backups;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod client;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod http;
#[cfg(test)]
mod interface;
#[cfg(test)]
mod keepers;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod model;
#[cfg(test)]
mod process;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod writes;
