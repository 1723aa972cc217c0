//! Log lines, and a panic's last words, to Envoy's log.

use std::panic;

use log::{Level, Log, Metadata, Record, set_logger};

use super::hostcalls;

/// Envoy's level for what ends the VM.
const CRITICAL: u32 = 5;

struct Logger;

/// Sends this module's log lines to Envoy's log.
pub fn install() {
    // It fails only where another logger was installed, and there is none.
    let _ = set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Trace);
    panic::set_hook(Box::new(|panic| hostcalls::log(CRITICAL, &panic.to_string())));
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Trace => 0,
            Level::Debug => 1,
            Level::Info => 2,
            Level::Warn => 3,
            Level::Error => 4,
        };
        hostcalls::log(level, &record.args().to_string());
    }

    fn flush(&self) {}
}
