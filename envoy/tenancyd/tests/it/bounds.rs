//! What is kept stays bounded, wherever it is kept.

use std::sync::Arc;

use tenancyd::calendar::{Kind, Zone};
use tenancyd::counts::{Counts, MAX_COUNTERS, MAX_PROXIES, REMEMBERED, Target, Which};
use tenancyd::error::Refusal;
use tenancyd::identifier::Identifier;
use tenancyd::lease::{Ask, Lease};
use tenancyd::store::Store;

use crate::keepers;
use crate::model::{acme, id, keep};

/// What a test does with counts; the other two are for whoever looks behind them.
async fn in_both(test: impl AsyncFn(&Counts, &Store, Option<&keepers::Redis>)) {
    let store = acme(&tenancyd::store::Location::Memory).await;
    test(&keep(store.clone(), None), &store, None).await;
    let redis = keepers::Redis::start();
    let store: Arc<Store> = acme(&tenancyd::store::Location::Memory).await;
    test(&keep(store.clone(), Some(&redis)), &store, Some(&redis)).await;
}

fn run(test: impl AsyncFn(&Counts, &Store, Option<&keepers::Redis>)) {
    tokio::runtime::Runtime::new().unwrap().block_on(in_both(test));
}

fn ask(proxy: Identifier, kind: Kind, used: i64, up_to: i64) -> Ask {
    Ask { proxy, sequence: 1, kind, zone: Zone::utc(), limit: 1 << 40, period_start: None, used, up_to }
}

async fn lease(counts: &Counts, ask: Ask) -> Result<Lease, Refusal> {
    counts.lease(id("acme"), id("q"), ask).await.map(|lease| lease.unwrap())
}

#[test]
fn what_has_long_been_over_is_summed_up_and_then_forgotten() {
    run(async |counts, store, redis| {
        let day = 86_400_000;
        let mut periods = Vec::new();
        for number in 0..80 {
            let answer = lease(counts, ask(id(&format!("p{number}")), Kind::Hour, 1, 3)).await.unwrap();
            periods.push(answer.period.start);
            assert_eq!((answer.granted, answer.usage, answer.leased), (3, 1, 2));
            counts.clock().move_by(day + 3_600_000);
        }
        let all = counts.list(id("acme"), None, 1000).await.unwrap().unwrap().items;
        // 31 days at 25 hours each, and one that wasn't looked at since.
        assert!((29..=31).contains(&all.len()), "{}", all.len());
        for (entry, start) in all.iter().zip(periods.iter().rev()) {
            assert_eq!((entry.place.start, entry.usage, entry.leased, entry.abandoned), (Some(*start), 1, 2, 2));
        }
        let leases = match redis {
            None => {
                let count = |connection: &rusqlite::Connection| {
                    connection.query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).map_err(Refusal::from)
                };
                store.read(count).await.unwrap()
            }
            Some(redis) => {
                let mut connection = redis.connect();
                let keys: Vec<String> = redis::cmd("KEYS").arg("*:period:*").query(&mut connection).unwrap();
                assert_eq!(keys.len(), all.len());
                let fields = |key| redis::cmd("HKEYS").arg(key).query::<Vec<String>>(&mut connection).unwrap();
                keys.iter().flat_map(fields).filter(|field| field.starts_with('@')).count().try_into().unwrap()
            }
        };
        assert!((1..=2_i64).contains(&leases), "{leases}");
        // A report about what was summed up would count it twice.
        let late = Ask { period_start: Some(periods[70]), ..ask(id("p70"), Kind::Hour, 3, 3) };
        lease(counts, late).await.unwrap();
        let again = counts.list(id("acme"), None, 1000).await.unwrap().unwrap().items;
        assert_eq!(again.iter().find(|entry| entry.place.start == Some(periods[70])).unwrap().usage, 1);
    });
}

#[test]
fn a_tenant_has_no_more_than_a_thousand_counters() {
    run(async |counts, _, _| {
        for number in 0..MAX_COUNTERS {
            assert!(counts.set(id("acme"), id(&format!("q{number}")), Target::Level, 1).await.unwrap());
        }
        let refused = counts.set(id("acme"), id("more"), Target::Level, 1).await;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
        let refused = lease(counts, ask(id("p"), Kind::Day, 0, 1)).await;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
        assert!(counts.set(id("acme"), id("q0"), Target::Level, 2).await.unwrap());
        assert!(counts.reset(id("acme"), id("q1"), Which::default()).await.unwrap());
        assert!(counts.set(id("acme"), id("more"), Target::Level, 1).await.unwrap());
    });
}

#[test]
fn of_too_many_proxies_the_one_that_is_silent_for_longest_is_summed_up() {
    run(async |counts, store, redis| {
        let first = lease(counts, ask(id("first"), Kind::Month, 10, 20)).await.unwrap();
        let (start, seen) = (first.period.start, first.now - REMEMBERED / 2);
        match redis {
            None => {
                let fill = move |connection: &rusqlite::Connection| {
                    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
                        INSERT INTO leases SELECT counter, start, 'p' || i, 1, 3, 1, ?2 FROM n, periods";
                    connection.execute(sql, [MAX_PROXIES, seen]).map_err(Refusal::from)
                };
                store.write(fill).await.unwrap();
            }
            Some(redis) => {
                let mut fill = redis::cmd("HSET");
                fill.arg(format!("tenancyd:{{acme}}:period:q month UTC {start}"));
                for number in 1..MAX_PROXIES {
                    fill.arg(format!("@p{number}")).arg(format!("1 3 1 {seen}"));
                }
                fill.query::<i64>(&mut redis.connect()).unwrap();
            }
        }
        let new = |name: &str| ask(id(name), Kind::Month, 0, 5);
        let refused = lease(counts, new("new")).await;
        assert!(matches!(refused, Err(Refusal::Unavailable(_))), "{refused:?}");
        // Whoever is known goes on.
        let known = lease(counts, Ask { sequence: 2, ..ask(id("first"), Kind::Month, 11, 20) }).await.unwrap();
        assert_eq!((known.usage, known.leased), (11 + 4095, 9 + 4095 * 2));
        counts.clock().move_by(REMEMBERED * 3 / 4);
        let [taken, next] = [lease(counts, new("new")).await.unwrap(), lease(counts, new("next")).await.unwrap()];
        assert_eq!((taken.granted, taken.usage, taken.leased), (5, known.usage, known.leased + 5));
        assert_eq!((next.granted, next.usage, next.leased), (5, known.usage, known.leased + 10));
    });
}
