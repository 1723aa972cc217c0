//! Random proxies, clocks and messages against what must hold whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tenancyd::calendar::{Kind, Zone};
use tenancyd::counts::{Counts, Entry, Target, Which};
use tenancyd::error::Refusal;
use tenancyd::identifier::Identifier;
use tenancyd::lease::{Ask, Lease};
use tenancyd::redis::Redis;
use tenancyd::store::{Location, Store, directory};

use crate::keepers;

const SILENCE: Duration = Duration::from_secs(30);

/// A store with one tenant, acme.
pub async fn acme(location: &Location) -> Arc<Store> {
    let store = Store::open(location).unwrap();
    let mut faults = Vec::new();
    let raw = tenancyd::document::document(br#"{"id":"acme"}"#, &mut faults).unwrap();
    let tenant = tenancyd::tenant::Tenant::parse(raw, None, "", &mut faults).unwrap();
    store.write(move |connection| directory::put_tenant(connection, &tenant)).await.unwrap();
    Arc::new(store)
}

/// Its counts.
pub fn keep(store: Arc<Store>, redis: Option<&keepers::Redis>) -> Counts {
    Counts::new(store, redis.map(|redis| Redis::at(&redis.url).unwrap()), SILENCE)
}

async fn counts(location: Location, redis: Option<&keepers::Redis>) -> Counts {
    keep(acme(&location).await, redis)
}

pub fn id(text: &str) -> Identifier {
    Identifier::parse(text).unwrap()
}

/// A seed that is printed, so that a failure can be had again.
fn seed() -> u64 {
    let given = std::env::var("TENANCYD_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap());
    println!("TENANCYD_TEST_SEED={seed}");
    seed
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
    fn units(&mut self, bound: i64) -> i64 {
        i64::try_from(self.below(u64::try_from(bound).unwrap())).unwrap()
    }
    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(u64::try_from(choices.len()).unwrap())).unwrap()].clone()
    }
}

/// A proxy as it should be: it uses what it was told that it may, and says so.
struct Proxy {
    id: Identifier,
    sequence: i64,
    period: Option<i64>,
    used: i64,
    may_use: i64,
    last: Option<Ask>,
}

#[derive(Default)]
struct World {
    proxies: Vec<Proxy>,
    /// What proxies may have used of a period that they no longer hold anything of, or that died holding it.
    gone: BTreeMap<i64, i64>,
    most: BTreeMap<i64, i64>,
    delayed: Vec<Ask>,
    born: u32,
    told: u32,
}

impl World {
    /// What is used, and what may be, in this period.
    fn in_period(&self, period: i64) -> (i64, i64) {
        let here = self.proxies.iter().filter(|proxy| proxy.period == Some(period));
        let gone = self.gone.get(&period).copied().unwrap_or(0);
        here.fold((gone, gone), |(used, may), proxy| (used + proxy.used, may + proxy.used.max(proxy.may_use)))
    }

    /// What a message came to.
    fn take(&mut self, ask: &Ask, lease: &Lease) {
        let period = lease.period.start;
        let most = self.most.entry(period).or_default();
        *most = (*most).max(ask.limit);
        // A proxy listens only to the answer to its last message.
        if let Some(proxy) =
            self.proxies.iter_mut().find(|proxy| proxy.id == ask.proxy && proxy.sequence == ask.sequence)
        {
            if proxy.period != Some(period) {
                if let Some(left) = proxy.period {
                    *self.gone.entry(left).or_default() += proxy.used;
                }
                (proxy.period, proxy.used) = (Some(period), 0);
            }
            self.told += u32::from(lease.granted > proxy.may_use);
            proxy.may_use = lease.granted;
            assert!(proxy.used <= proxy.may_use, "what was granted was taken away: {lease:?}");
        }
        let (used, may) = self.in_period(period);
        let most = self.most[&period];
        assert!(may <= most, "{may} of {most} may be used: {ask:?} {lease:?}");
        assert!(lease.usage + lease.leased <= most, "{lease:?} of {most}");
        assert!(lease.usage + lease.leased >= used, "a count is lost: {used} are used, {lease:?}");
    }
}

async fn play(counts: &Counts, random: &mut Random, quota: &str, steps: u32) -> World {
    let mut world = World::default();
    let kind = random.one_of(&[Kind::Minute, Kind::Hour, Kind::Day]);
    let zone = Zone::parse(random.one_of(&["UTC", "Asia/Kolkata", "America/St_Johns"])).unwrap();
    let mut limit = 100;
    for _ in 0..steps {
        if world.proxies.is_empty() || (world.proxies.len() < 6 && random.below(20) == 0) {
            world.born += 1;
            let id = id(&format!("p{}", world.born));
            world.proxies.push(Proxy { id, sequence: 0, period: None, used: 0, may_use: 0, last: None });
        }
        let at = usize::try_from(random.below(u64::try_from(world.proxies.len()).unwrap())).unwrap();
        let proxy = &mut world.proxies[at];
        let ask = match random.below(100) {
            0..40 => {
                proxy.used += random.units(proxy.may_use - proxy.used + 1);
                continue;
            }
            40..75 => {
                proxy.sequence += 1;
                let most = random.one_of(&[1, 10, 50, 500]);
                let up_to = match random.below(4) {
                    0 => random.units(proxy.used + 1),
                    _ => proxy.used + random.units(most),
                };
                // It gives back what it can no longer use from now on, whenever that is heard.
                proxy.may_use = proxy.may_use.min(up_to.max(proxy.used));
                let (id, sequence, used) = (proxy.id.clone(), proxy.sequence, proxy.used);
                let ask = Ask {
                    proxy: id,
                    sequence,
                    kind,
                    zone: zone.clone(),
                    limit,
                    period_start: proxy.period,
                    used,
                    up_to,
                };
                proxy.last = Some(ask.clone());
                match random.below(8) {
                    0 => continue,
                    1 => {
                        world.delayed.push(ask);
                        continue;
                    }
                    2 => world.delayed.push(ask.clone()),
                    _ => {}
                }
                ask
            }
            75..85 => match proxy.last.clone() {
                Some(ask) => ask,
                None => continue,
            },
            85..93 => match world.delayed.is_empty() {
                true => continue,
                false => {
                    let at = random.below(u64::try_from(world.delayed.len()).unwrap());
                    world.delayed.swap_remove(usize::try_from(at).unwrap())
                }
            },
            93..95 => {
                let dead = world.proxies.swap_remove(at);
                if let Some(period) = dead.period {
                    // Nobody knows how much of that it has used.
                    *world.gone.entry(period).or_default() += dead.used + random.units(dead.may_use - dead.used + 1);
                }
                continue;
            }
            95..98 => {
                let moves = [40_000, -40_000, 25 * 60_000, -25 * 60_000, 3 * 3_600_000, -2 * 3_600_000];
                counts.clock().move_by(random.one_of(&moves));
                continue;
            }
            _ => {
                limit = random.one_of(&[0, 1, 50, 100, 200]);
                continue;
            }
        };
        let answer = counts.lease(id("acme"), id(quota), ask.clone()).await;
        match answer {
            Ok(lease) => world.take(&ask, &lease.unwrap()),
            // Its clock may go back by more than a day in sum.
            Err(Refusal::Invalid(faults)) if faults[0].path == "periodStart" => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    world
}

fn hold(location: fn(&std::path::Path) -> Location, redis: Option<keepers::Redis>, rounds: u32, steps: u32) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let counts = counts(location(folder.path()), redis.as_ref()).await;
        let mut random = Random(seed());
        let mut told = 0;
        for round in 0..rounds {
            told += play(&counts, &mut random, &format!("q{round}"), steps).await.told;
        }
        println!("{told} grants");
        assert!(told > rounds, "nothing was granted");
    });
}

#[test]
fn never_more_may_be_used_than_the_limit_in_memory() {
    hold(|_| Location::Memory, None, 30, 1500);
}

#[test]
fn never_more_may_be_used_than_the_limit_in_a_file() {
    hold(|folder| Location::File(folder.join("t.db")), None, 4, 500);
}

#[test]
fn never_more_may_be_used_than_the_limit_in_redis() {
    hold(|_| Location::Memory, Some(keepers::Redis::start()), 6, 600);
}

/// All that an answer says but the time.
fn said(lease: Result<Option<Lease>, Refusal>) -> String {
    match lease {
        Ok(lease) => format!("{:?}", lease.map(|lease| Lease { now: 0, ..lease })),
        Err(refusal) => format!("{refusal:?}"),
    }
}

async fn listed(counts: &Counts, limit: usize) -> Vec<Entry> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = counts.list(id("acme"), after, limit).await.unwrap().unwrap();
        all.extend(page.items);
        match page.next {
            Some(next) => after = tenancyd::counts::Place::parse(&next),
            None => return all,
        }
    }
}

/// Whatever comes, sensible or not, both keepers say the same.
#[test]
fn redis_says_what_the_database_says() {
    let redis = keepers::Redis::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (one, other) = (counts(Location::Memory, None).await, counts(Location::Memory, Some(&redis)).await);
        let mut random = Random(seed());
        let numbers = [
            0,
            1,
            2,
            99,
            100,
            1000,
            999_999_999,
            1_000_000_000,
            1_000_000_001,
            (1 << 53) - 1,
            1 << 53,
            (1 << 53) + 1,
            i64::MAX - 1,
            i64::MAX,
            4_611_686_018_427_387_904,
        ];
        let kinds = [Kind::Hour, Kind::Day, Kind::Month];
        for step in 0..2500 {
            let number = |random: &mut Random| match random.below(3) {
                0 => random.one_of(&numbers),
                _ => random.units(300),
            };
            let quota = format!("q{}", random.below(4));
            let zone = random.one_of(&["UTC", "Asia/Tokyo"]);
            let kind = random.one_of(&kinds);
            match random.below(40) {
                0 => {
                    let moved = random.one_of(&[40_000, -40_000, 7_200_000, -3_600_000, 90_000_000]);
                    one.clock().move_by(moved);
                    other.clock().move_by(moved);
                    // So far from every boundary that the two can't differ about it.
                    let near = one.clock().now().rem_euclid(1_800_000);
                    if !(5_000..1_795_000).contains(&near) {
                        one.clock().move_by(10_000);
                        other.clock().move_by(10_000);
                    }
                }
                1 => {
                    let target = match random.below(3) {
                        0 => Target::Level,
                        _ => Target::Period(kind, Zone::parse(zone).unwrap()),
                    };
                    let usage = number(&mut random);
                    let set = |counts| set(counts, quota.clone(), target.clone(), usage);
                    assert_eq!((set(&one).await, set(&other).await), (true, true));
                }
                2 => {
                    let which = Which::parse(random.one_of(&[None, Some("none"), Some(kind.as_str())]), None).unwrap();
                    for counts in [&one, &other] {
                        // The last touched is told by the millisecond.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        assert!(counts.reset(id("acme"), id(&quota), which.clone()).await.unwrap());
                    }
                }
                3 => {
                    let which = Which::parse(Some(kind.as_str()), Some(zone)).unwrap();
                    let ask = |counts| usage(counts, quota.clone(), which.clone());
                    assert_eq!(ask(&one).await, ask(&other).await, "{step}");
                }
                4 => {
                    let limit = random.one_of(&[1, 7, 1000]);
                    let (here, there) = (listed(&one, limit).await, listed(&other, limit).await);
                    // What is due to be cleared away goes a few at a time, of equals in any order.
                    let due = one.clock().now().div_euclid(1000) - 86_400;
                    let lasting = |entries: Vec<Entry>| -> Vec<Entry> {
                        entries.into_iter().filter(|entry| entry.end.is_none_or(|end| end > due)).collect()
                    };
                    let (here, there) = (lasting(here), lasting(there));
                    assert_eq!(here.len(), there.len(), "{step}");
                    for (here, there) in here.iter().zip(&there) {
                        assert_eq!(here, there, "{step}");
                    }
                }
                _ => {
                    let second = one.clock().now().div_euclid(1000);
                    let start = match random.below(8) {
                        0 => Some(second - random.units(200_000)),
                        1 => Some(second + random.units(100_000)),
                        2 => Some(number(&mut random)),
                        3 => None,
                        _ => Some(second),
                    };
                    let ask = Ask {
                        proxy: id(&format!("p{}", random.below(5))),
                        sequence: 1 + i64::from(step) + random.units(5),
                        kind,
                        zone: Zone::parse(zone).unwrap(),
                        limit: number(&mut random),
                        period_start: start,
                        used: number(&mut random) / random.one_of(&[1, 1, 1000]),
                        up_to: number(&mut random),
                    };
                    let [here, there] = [&one, &other].map(|counts| counts.lease(id("acme"), id(&quota), ask.clone()));
                    assert_eq!(said(here.await), said(there.await), "{step}: {ask:?}");
                    tokio::time::sleep(Duration::from_millis(random.below(2))).await;
                }
            }
        }
    });
}

async fn set(counts: &Counts, quota: String, target: Target, usage: i64) -> bool {
    tokio::time::sleep(Duration::from_millis(2)).await;
    counts.set(id("acme"), id(&quota), target, usage).await.unwrap()
}

async fn usage(counts: &Counts, quota: String, which: Which) -> i64 {
    counts.usage(id("acme"), id(&quota), which).await.unwrap().unwrap()
}
