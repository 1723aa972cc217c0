//! What the filter and Envoy say to each other.
