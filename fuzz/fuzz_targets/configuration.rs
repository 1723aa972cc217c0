//! Any bytes as the plugin's configuration: JSON, a Struct, a TypedStruct, or neither. They are taken or refused.
#![no_main]

use envoy_tenancy::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(faults) = Config::from_bytes(bytes) {
        assert!(!faults.is_empty(), "a refusal says why");
        assert!(faults.to_string().len() < 100 * (bytes.len() + 1000), "and in bounded words");
    }
});
