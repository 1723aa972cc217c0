//! Load at a fixed rate, whatever becomes of earlier requests: latency counts from the moment a request was due, so one that had to wait
//! for others to be sent shows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::Request;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Outcome;
use crate::load::{Connections, PATIENCE, ask};
use crate::statistics::quantiles;

/// How many connections each thread has to a listener.
const CONNECTIONS: usize = 8;
/// How many requests a thread sends until it looks whether its time is over.
const BATCH: usize = 2000;
/// How often a rate is tried in search of the highest, and for how long each time.
const STEPS: usize = 6;
const STEP: Duration = Duration::from_millis(600);

/// Threads that load a listener, each with connections of its own.
#[derive(Clone)]
pub struct Load {
    pub threads: u32,
    pub to: SocketAddr,
    /// The requests, in turn; all are answered 200.
    pub requests: Arc<[Request<()>]>,
}

impl Load {
    /// The most requests a second, at even intervals, with which the listener keeps up.
    ///
    /// Requests in bulk are cheaper than one at a time, so what is answered if each connection always has some under way is only where the
    /// search begins.
    pub async fn saturation(&self) -> Outcome<f64> {
        let rates = self.in_threads(Self::in_bulk).await?;
        let mut above: f64 = rates.into_iter().sum();
        let mut below = above / 4.0;
        for _ in 0..STEPS {
            let rate = f64::midpoint(below, above);
            let [median] = quantiles(&self.latencies(rate, STEP).await?, [0.5]);
            // Where one percent more comes than is answered, half of the requests wait for longer than half a percent of the time.
            let kept_up = median < STEP.as_secs_f64() * 1e6 / 200.0;
            *(if kept_up { &mut below } else { &mut above }) = rate;
        }
        Ok(below)
    }

    /// The latencies, in microseconds, of requests that are due at even intervals, so many a second altogether.
    pub async fn latencies(&self, rate: f64, length: Duration) -> Outcome<Vec<f64>> {
        let rate = rate / f64::from(self.threads);
        let latencies = self.in_threads(move |load| load.steady(rate, length)).await?;
        Ok(latencies.into_iter().flatten().collect())
    }

    /// Runs the same in each thread, and waits for all of them; each ends by itself.
    async fn in_threads<T, F>(&self, work: impl Fn(Self) -> F + Copy + Send + 'static) -> Outcome<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Outcome<T>>,
    {
        let mut results = Vec::new();
        for _ in 0..self.threads {
            let load = self.clone();
            let (done, result) = tokio::sync::oneshot::channel();
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let outcome = match runtime {
                    Ok(runtime) => runtime.block_on(work(load)).map_err(|fault| fault.to_string()),
                    Err(fault) => Err(fault.to_string()),
                };
                // Nobody wants it where the run was stopped.
                let _ = done.send(outcome);
            });
            results.push(result);
        }
        let mut all = Vec::new();
        for result in results {
            all.push(result.await??);
        }
        Ok(all)
    }

    fn request(&self, number: usize) -> Request<()> {
        self.requests.get(number % self.requests.len().max(1)).cloned().unwrap_or_default()
    }

    async fn in_bulk(self) -> Outcome<f64> {
        let connections = Connections::some(self.to, CONNECTIONS).await?;
        let begun = Instant::now();
        let mut sent = 0_u32;
        while begun.elapsed() < STEP {
            let batch: Vec<_> = (0..BATCH).map(|number| self.request(number)).collect();
            sent += u32::try_from(batch.len())?;
            connections.send(batch, Some(200)).await?;
        }
        Ok(f64::from(sent) / begun.elapsed().as_secs_f64())
    }

    async fn steady(self, rate: f64, length: Duration) -> Outcome<Vec<f64>> {
        let connections = Connections::some(self.to, CONNECTIONS).await?;
        let mut senders = connections.senders().iter().cycle();
        let interval = Duration::from_secs_f64(1.0 / rate);
        let mut clock = Clock::start(interval)?;
        let mut under_way = JoinSet::new();
        let mut sent = 0_usize;
        while let Some(due) = clock.due(length).await? {
            let (request, sender) = (self.request(sent), senders.next().ok_or("there is no connection")?.clone());
            sent += 1;
            under_way.spawn(async move {
                ask(sender, request).await.map_err(|error| error.to_string())?.expect(200)?;
                Ok::<_, String>(due.elapsed().as_secs_f64() * 1e6)
            });
        }
        let all = async {
            let mut latencies = Vec::with_capacity(sent);
            while let Some(latency) = under_way.join_next().await {
                latencies.push(latency??);
            }
            Ok(latencies)
        };
        timeout(PATIENCE, all)
            .await
            .map_err(|_| format!("after {PATIENCE:?} some of {sent} requests have no answer"))?
    }
}

/// Tells when requests are due. The kernel's timer wakes us: the runtime's own knows whole milliseconds only.
struct Clock {
    timer: AsyncFd<rustix::fd::OwnedFd>,
    begun: Instant,
    interval: Duration,
    /// How many were due until now.
    ticks: u32,
    /// How many of those have been told of.
    told: u32,
}

impl Clock {
    fn start(interval: Duration) -> Outcome<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: an OwnedFd is one open descriptor until it is dropped, and the AsyncFd owns it.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        let every = Timespec::try_from(interval)?;
        let begun = Instant::now();
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &times)?;
        Ok(Self { timer, begun, interval, ticks: 0, told: 0 })
    }

    /// Waits for the next that is due, and gives when it was; `None` once the time is over.
    async fn due(&mut self, length: Duration) -> Outcome<Option<Instant>> {
        while self.told == self.ticks {
            let mut ready = self.timer.readable().await?;
            let mut ticks = [0; 8];
            match rustix::io::read(self.timer.get_ref(), &mut ticks) {
                Ok(_) => self.ticks += u32::try_from(u64::from_ne_bytes(ticks))?,
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(fault) => return Err(fault.into()),
            }
        }
        self.told += 1;
        let since = self.interval * self.told;
        Ok((since < length).then(|| self.begun + since))
    }
}
