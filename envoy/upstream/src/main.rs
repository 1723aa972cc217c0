//! `upstream`: arguments, start, stop.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// An HTTP/1.1, HTTP/2 (without TLS) and WebSocket server that answers each request with what it received.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen: IP:PORT (port 0: any free one)
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The name that its answers give
    #[arg(long, default_value = "upstream")]
    name: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("upstream: {fault}");
            ExitCode::FAILURE
        }
    }
}

async fn run(Arguments { listen, name }: Arguments) -> Result<(), String> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("can't listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    println!(
        "{}",
        serde_json::json!({"message": "listening", "address": address.to_string(), "name": name})
    );
    upstream::serve(listener, name, stop)
        .await
        .map_err(|error| error.to_string())
}
