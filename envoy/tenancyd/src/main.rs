//! `tenancyd`: arguments, start, stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tenancyd::api::{self, State};
use tenancyd::connections::{Bounds, Connections};
use tenancyd::counts::Counts;
use tenancyd::metrics::Metrics;
use tenancyd::redis::Redis;
use tenancyd::seed;
use tenancyd::server::{self, Address, Listener, Purpose, Reserved};
use tenancyd::store::{self, Location, Store};
use tenancyd::token::{self, Token};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A directory of tenants and their domains, over HTTP, in SQLite: the companion of the envoy-tenancy filter.
///
/// Writes need the bearer token that the environment variable TENANCYD_TOKEN or --token-file gives; without one they are off.
/// Leases need that of TENANCYD_PROXY_TOKEN or --proxy-token-file, or the one for writes; without one every proxy may lease.
/// Clients' connections need Envoy's secret, of TENANCYD_CONNECTIONS_SECRET or --connections-secret-file.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to listen: IP:PORT (port 0: any free one) or unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8070")]
    listen: Address,
    /// The SQLite file, created if it isn't there; :memory: keeps nothing
    #[arg(long, value_name = "FILE", default_value = "tenancyd.db", global = true)]
    database: Location,
    /// A JSON file of tenants and domains to load at the start, over what the database has
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// The file that holds the bearer token for writes
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The file that holds the bearer token for leases
    #[arg(long, value_name = "FILE")]
    proxy_token_file: Option<PathBuf>,
    /// After how many seconds of a proxy's silence its unused units are shown as abandoned
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86400))]
    lease_seconds: u32,
    /// Keep usage and leases in this Redis, for several tenancyd that count together; or the environment variable TENANCYD_REDIS
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    #[command(flatten)]
    door: Door,
    /// What to log: off, error, warn, info, debug or trace, also by module (info,tenancyd::server=debug)
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: Targets,
}

// Where clients connect, and what that may cost. (A `///` here would become the command's own description.)
#[derive(clap::Args)]
struct Door {
    /// Where to take clients' WebSocket connections, from Envoy alone: IP:PORT or unix:PATH; nowhere unless given
    #[arg(long, value_name = "ADDRESS")]
    connections: Option<Address>,
    /// The file that holds the secret that Envoy shows for clients' connections
    #[arg(long, value_name = "FILE")]
    connections_secret_file: Option<PathBuf>,
    /// The most connections at once
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = up_to(1_000_000))]
    connections_max: u32,
    /// After how many seconds without anything from its client a connection is closed
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = up_to(86_400))]
    connections_idle_seconds: u32,
    /// How many seconds a client that came without a token has for its auth message
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = up_to(3_600))]
    connections_auth_seconds: u32,
    /// The most bytes that a client's message may have
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = up_to(524_288))]
    connections_message_bytes: u32,
}

/// A whole number from 1.
fn up_to(most: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=most)
}

impl Door {
    fn bounds(&self) -> Result<Bounds, String> {
        Ok(Bounds {
            connections: self.connections_max,
            message_bytes: usize::try_from(self.connections_message_bytes).map_err(|error| error.to_string())?,
            idle: Duration::from_secs(self.connections_idle_seconds.into()),
            auth: Duration::from_secs(self.connections_auth_seconds.into()),
        })
    }

    /// The secret, which only an address that nobody else reaches can do without.
    fn secret(&self) -> Result<Option<Token>, String> {
        let secret = load_token(&token::CONNECTIONS, self.connections_secret_file.as_deref())?;
        match &self.connections {
            Some(address) if secret.is_none() && !address.is_local() => {
                let token::Source { variable, option } = token::CONNECTIONS;
                let why = "others than Envoy can reach this address, and so it needs a secret";
                Err(format!("--connections {address}: {why}, by {variable} or {option}"))
            }
            _ => Ok(secret),
        }
    }
}

/// What else it can do.
#[derive(clap::Subcommand)]
enum Command {
    /// Copy the database to a new file, whole and of one moment, also while a tenancyd serves it
    Backup {
        /// The file; there must be none
        file: PathBuf,
    },
}

/// How long a database job that outlived the stop may hold up the process's end.
const LAST_WAIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::Backup { file }) => store::backup(&arguments.database, file),
        None => serve(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("tenancyd: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Arguments) -> Result<(), String> {
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    let done = runtime.block_on(run(arguments));
    runtime.shutdown_timeout(LAST_WAIT);
    done
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let json =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    tracing_subscriber::registry().with(arguments.log).with(json).init();

    let token = load_token(&token::WRITES, arguments.token_file.as_deref())?;
    let proxy_token = load_token(&token::LEASES, arguments.proxy_token_file.as_deref())?;
    let (bounds, secret) = (arguments.door.bounds()?, arguments.door.secret()?);
    let redis_url = redis_url(arguments.redis)?;
    let redis = redis_url.as_deref().map(Redis::at).transpose()?;
    let connections = Arc::new(Connections::new(bounds, secret, redis_url.as_deref())?);
    // Before the database is touched: a second start by mistake must not load its seed over the first one's data.
    let reserved = Reserved::new(&arguments.listen).await?;
    let reserved_door = match &arguments.door.connections {
        Some(address) => Some(Reserved::new(address).await?),
        None => None,
    };
    let store = Arc::new(Store::open(&arguments.database)?);
    if let Some(file) = &arguments.seed {
        let loaded = seed::load(&store, file).await?;
        tracing::info!(tenants = loaded.tenants, domains = loaded.domains, "seed loaded");
    }

    // Not before: until here there is nothing to finish, and a signal may end the process as it always does.
    let mut signals = Signals::listen().map_err(|error| format!("can't listen for signals: {error}"))?;
    let writes = if token.is_some() { "token" } else { "off" };
    let leases = if proxy_token.is_some() { "token" } else { "open" };
    let counted_in = if redis.is_some() { "redis" } else { "database" };
    let counts = Counts::new(store.clone(), redis, Duration::from_secs(arguments.lease_seconds.into()));
    let state = Arc::new(State { store, counts, connections, token, proxy_token, metrics: Metrics::default() });
    let door = reserved_door.map(Reserved::listen).transpose()?;
    if let Some(door) = &door {
        let address = door.address().map_err(|error| error.to_string())?;
        tracing::info!(%address, instance = state.connections.instance, "listening for connections");
    }
    let listener = reserved.listen()?;
    let address = listener.address().map_err(|error| error.to_string())?;
    tracing::info!(%address, database = %arguments.database, writes, leases, counted_in, "listening");
    serve_until(signals.next(), listener, door, &state).await;
    let closed = state.store.close().await;
    closed
        .map_err(|refusal| format!("database {}: {}", arguments.database, refusal.private().unwrap_or("not closed")))?;
    tracing::info!("stopped");
    Ok(())
}

/// Serves requests, and clients' connections where they have a door, until it is time to stop.
async fn serve_until(time: impl Future<Output = ()>, listener: Listener, door: Option<Listener>, state: &Arc<State>) {
    let (stop, stopping) = watch::channel(false);
    let stopped = || {
        let mut stopping = stopping.clone();
        // The sender outlives everybody who listens.
        async move { _ = stopping.wait_for(|stop| *stop).await }
    };
    // An instance that takes no connections has nothing to tell to others, and nobody to pass on what they say to.
    let in_touch = door.is_some().then(|| {
        let connections = state.connections.clone();
        tokio::spawn(async move { connections.keep_in_touch().await })
    });
    let requests = server::serve(listener, api::router(state.clone()), Purpose::Requests, stopped());
    let sockets = async {
        if let Some(door) = door {
            let purpose = Purpose::WebSockets { idle: state.connections.bounds.idle };
            server::serve(door, api::door(state.clone()), purpose, stopped()).await;
        }
    };
    let stopping = async {
        time.await;
        stop.send_replace(true);
        state.connections.close().await;
        if let Some(in_touch) = in_touch {
            in_touch.abort();
            // Once it is over nothing says any more that this instance lives.
            let _ = in_touch.await;
            state.connections.leave().await;
        }
    };
    tokio::join!(requests, sockets, stopping);
}

fn load_token(source: &token::Source, file: Option<&Path>) -> Result<Option<Token>, String> {
    let variable = std::env::var(source.variable);
    if matches!(variable, Err(std::env::VarError::NotUnicode(_))) {
        return Err(format!("{}: the token has characters that no header can carry", source.variable));
    }
    Token::load(source, file, variable.ok().as_deref())
}

/// Where Redis is: an address may have a password in it, and then it is better in the environment than on a command line.
fn redis_url(option: Option<String>) -> Result<Option<String>, String> {
    let variable = std::env::var("TENANCYD_REDIS").ok().filter(|url| !url.is_empty());
    match (option, variable) {
        (Some(_), Some(_)) => Err("both TENANCYD_REDIS and --redis are given; one of them must go".to_owned()),
        (option, variable) => Ok(option.or(variable)),
    }
}

/// The signals that ask us to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
