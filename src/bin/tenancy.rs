//! The filter's core as a native command.

use std::process::ExitCode;

use envoy_tenancy::config::Config;

const USAGE: &str = "\
tenancy: the tenancy filter's configuration, looked at without Envoy

  tenancy check FILE   say whether FILE, the filter's configuration as JSON, is taken, or all of its faults
  tenancy schema       print the JSON Schema of the configuration
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["schema"] => {
            println!("{:#}", Config::json_schema());
            ExitCode::SUCCESS
        }
        ["check", file] => check(file),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn check(file: &str) -> ExitCode {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::from(2);
        }
    };
    match Config::from_bytes(&bytes) {
        Ok(_) => {
            println!("{file}: a sound configuration");
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{file}: {faults}");
            ExitCode::FAILURE
        }
    }
}
