//! Usage and leases in SQLite. Each function runs inside the transaction that its caller opened.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::directory::Page;
use crate::calendar::{Kind, Period};
use crate::counts::{self, Entry, MAX_COUNTERS, MAX_PROXIES, Place, REMEMBERED, Target, Which};
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::lease::{Ask, Lease, Row, Sums, bounded};

/// What a level's period is called: no moment is later, so it is listed first and never ends.
const ALWAYS: i64 = i64::MAX;
/// How many periods a new one clears away, if they are due: more than it adds, so that they don't pile up.
const TIDIED: i64 = 4;
/// A page of usage ends once this many leases were added up for it.
const MAX_PAGE_ROWS: u32 = 50_000;

/// Takes over a proxy's message about a tenant's quota.
pub fn lease(
    connection: &Connection,
    tenant: &str,
    quota: &Identifier,
    ask: &Ask,
    now: i64,
    silence: i64,
) -> Result<Lease, Refusal> {
    let second = now.div_euclid(1000);
    let counter = counter(connection, tenant, quota, ask.kind.as_str(), ask.zone.as_str(), now)?;
    let lasting = lasting(connection, counter, ask.zone.period(ask.kind, second)?)?;
    let named = match ask.period_start {
        Some(start) => match period(connection, counter, start)? {
            Some(known) => known,
            None => counts::named(ask, start, second)?,
        },
        None => lasting,
    };
    let current = named.max(lasting);
    begin_period(connection, counter, tenant, ask.kind, current, second)?;

    let is_late = named < current;
    if is_late && counts::is_heard(ask.kind, named, second) {
        begin_period(connection, counter, tenant, ask.kind, named, second)?;
        let mut row = row(connection, counter, named.start, &ask.proxy, now)?;
        row.hear_late(ask, now);
        save(connection, counter, named.start, &ask.proxy, &row)?;
    }
    let mut sums = sums(connection, counter, current.start, Some(&ask.proxy), now.saturating_sub(silence))?;
    let mut row = row(connection, counter, current.start, &ask.proxy, now)?;
    let outcome = match is_late {
        true => row.hear_moving(ask, now, &sums),
        false => row.hear(ask, now, &sums),
    };
    save(connection, counter, current.start, &ask.proxy, &row)?;
    sums.add(&row, now.saturating_sub(silence));
    let (usage, leased) = (sums.usage(), sums.leased());
    Ok(Lease { period: current, now, granted: row.granted, usage, leased, outcome })
}

/// How much of a quota is used: in the period that lasts, or of the level.
pub fn usage(
    connection: &Connection,
    tenant: &str,
    quota: &Identifier,
    which: &Which,
    now: i64,
) -> Result<i64, Refusal> {
    let Some((counter, target)) = find(connection, tenant, quota, which)? else { return Ok(0) };
    let start = match &target {
        Target::Level => ALWAYS,
        Target::Period(kind, zone) => lasting(connection, counter, zone.period(*kind, now.div_euclid(1000))?)?.start,
    };
    Ok(sums(connection, counter, start, None, i64::MIN)?.usage())
}

/// A tenant's usage after this place, newest periods first.
pub fn list(
    connection: &Connection,
    tenant: &str,
    after: Option<&Place>,
    limit: usize,
    silent_before: i64,
) -> Result<Page<Entry>, Refusal> {
    let sql = "SELECT counter, start, end, quota_key, kind, timezone
        FROM periods JOIN counters ON counters.id = periods.counter
        WHERE periods.tenant_id = ?1 AND start <= ?2
            AND (start < ?2 OR (quota_key, kind, timezone) > (?3, ?4, ?5))
        ORDER BY start DESC, quota_key, kind, timezone";
    let mut statement = connection.prepare_cached(sql)?;
    let (start, quota, kind, zone) = match after {
        Some(place) => (place.start.unwrap_or(ALWAYS), place.quota.as_str(), place.kind.as_str(), place.zone.as_str()),
        None => (ALWAYS, "", "", ""),
    };
    let mut rows = statement.query(params![tenant, start, quota, kind, zone])?;
    let mut page = Page { items: Vec::<Entry>::new(), next: None };
    let mut added = 0_u32;
    while let Some(row) = rows.next()? {
        if page.items.len() >= limit || added > MAX_PAGE_ROWS {
            page.next = page.items.last().map(|last| last.place.to_string());
            break;
        }
        let start: i64 = row.get("start")?;
        let sums = sums(connection, row.get("counter")?, start, None, silent_before)?;
        added = added.saturating_add(sums.proxies);
        let is_level = start == ALWAYS;
        let place = Place {
            start: (!is_level).then_some(start),
            quota: row.get("quota_key")?,
            kind: row.get("kind")?,
            zone: row.get("timezone")?,
        };
        let end = if is_level { None } else { Some(row.get("end")?) };
        let (usage, leased, abandoned) = (sums.usage(), sums.leased(), bounded(sums.abandoned));
        page.items.push(Entry { place, end, usage, leased, abandoned });
    }
    Ok(page)
}

/// Sets how much of a quota is used. What lies in abandoned leases comes back.
pub fn set(
    connection: &Connection,
    tenant: &str,
    quota: &Identifier,
    target: &Target,
    usage: i64,
    now: i64,
    silence: i64,
) -> Result<(), Refusal> {
    let counter = counter(connection, tenant, quota, target.kind(), target.zone(), now)?;
    let start = match target {
        Target::Level => {
            let sql = "INSERT INTO periods (counter, start, end, tenant_id, expires) VALUES (?1, ?2, ?2, ?3, ?2)
                ON CONFLICT DO NOTHING";
            connection.prepare_cached(sql)?.execute(params![counter, ALWAYS, tenant])?;
            ALWAYS
        }
        Target::Period(kind, zone) => {
            let second = now.div_euclid(1000);
            let lasting = lasting(connection, counter, zone.period(*kind, second)?)?;
            begin_period(connection, counter, tenant, *kind, lasting, second)?;
            lasting.start
        }
    };
    let sql = "UPDATE leases SET granted = used WHERE counter = ? AND start = ? AND seen < ?";
    connection.prepare_cached(sql)?.execute(params![counter, start, now.saturating_sub(silence)])?;
    let sql = "UPDATE periods SET base = 0, folded_granted = folded_used WHERE counter = ? AND start = ?";
    connection.prepare_cached(sql)?.execute([counter, start])?;
    let leases = sums(connection, counter, start, None, i64::MIN)?.used;
    let base = i128::from(usage).saturating_sub(leases).max(i64::MIN.into());
    let base = i64::try_from(base).map_err(|error| Refusal::Internal(error.to_string()))?;
    let sql = "UPDATE periods SET base = ? WHERE counter = ? AND start = ?";
    connection.prepare_cached(sql)?.execute([base, counter, start])?;
    Ok(())
}

/// Sets how much of a quota is used to nothing, or forgets its level.
pub fn reset(
    connection: &Connection,
    tenant: &str,
    quota: &Identifier,
    which: &Which,
    now: i64,
    silence: i64,
) -> Result<(), Refusal> {
    match find(connection, tenant, quota, which)? {
        None => Ok(()),
        Some((counter, Target::Level)) => {
            connection.prepare_cached("DELETE FROM counters WHERE id = ?")?.execute([counter])?;
            Ok(())
        }
        Some((_, target)) => set(connection, tenant, quota, &target, 0, now, silence),
    }
}

/// The counter's number; it is touched now.
fn counter(
    connection: &Connection,
    tenant: &str,
    quota: &Identifier,
    kind: &str,
    zone: &str,
    now: i64,
) -> Result<i64, Refusal> {
    let sql = "UPDATE counters SET touched = ?5 WHERE tenant_id = ?1 AND quota_key = ?2 AND kind = ?3 AND timezone = ?4
        RETURNING id";
    let parameters = params![tenant, quota.as_str(), kind, zone, now];
    let known = connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0)).optional()?;
    if let Some(counter) = known {
        return Ok(counter);
    }
    let sql = "SELECT count(*) FROM counters WHERE tenant_id = ?";
    let counters: i64 = connection.prepare_cached(sql)?.query_row([tenant], |row| row.get(0))?;
    if counters >= MAX_COUNTERS {
        return Err(counts::too_many_counters());
    }
    let sql =
        "INSERT INTO counters (tenant_id, quota_key, kind, timezone, touched) VALUES (?, ?, ?, ?, ?) RETURNING id";
    Ok(connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0))?)
}

/// The counter that is meant; of several the one that was touched last.
fn find(
    connection: &Connection,
    tenant: &str,
    quota: &Identifier,
    which: &Which,
) -> Result<Option<(i64, Target)>, Refusal> {
    let sql = "SELECT id, kind, timezone FROM counters WHERE tenant_id = ?1 AND quota_key = ?2
        AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR timezone = ?4) ORDER BY touched DESC, id DESC LIMIT 1";
    let parameters = params![tenant, quota.as_str(), which.kind(), which.zone()];
    let found: Option<(i64, String, String)> = connection
        .prepare_cached(sql)?
        .query_row(parameters, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    found.map(|(id, kind, zone)| Ok((id, Target::stored(&kind, &zone)?))).transpose()
}

/// The period that lasts: that of the clock, or the newest one, since time never goes back.
fn lasting(connection: &Connection, counter: i64, by_clock: Period) -> Result<Period, Refusal> {
    let sql = "SELECT start, end FROM periods WHERE counter = ? ORDER BY start DESC LIMIT 1";
    let newest = connection.prepare_cached(sql)?.query_row([counter], as_period).optional()?;
    Ok(newest.map_or(by_clock, |newest| newest.max(by_clock)))
}

fn period(connection: &Connection, counter: i64, start: i64) -> Result<Option<Period>, Refusal> {
    let sql = "SELECT start, end FROM periods WHERE counter = ? AND start = ?";
    Ok(connection.prepare_cached(sql)?.query_row([counter, start], as_period).optional()?)
}

fn as_period(row: &SqlRow<'_>) -> rusqlite::Result<Period> {
    Ok(Period { start: row.get(0)?, end: row.get(1)? })
}

fn begin_period(
    connection: &Connection,
    counter: i64,
    tenant: &str,
    kind: Kind,
    period: Period,
    second: i64,
) -> Result<(), Refusal> {
    let sql = "INSERT INTO periods (counter, start, end, tenant_id, fold_at, expires) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT DO NOTHING";
    let (fold_at, expires) =
        (period.end.saturating_add(kind.leases_kept()), period.end.saturating_add(kind.totals_kept()));
    let begun = connection.prepare_cached(sql)?.execute(params![
        counter,
        period.start,
        period.end,
        tenant,
        fold_at,
        expires
    ])?;
    match begun {
        0 => Ok(()),
        _ => tidy(connection, second),
    }
}

/// Clears away a few leases and periods that have been over for long enough.
fn tidy(connection: &Connection, second: i64) -> Result<(), Refusal> {
    let due = |sql: &str| -> Result<Vec<(i64, i64)>, Refusal> {
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([second, TIDIED], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    for (counter, start) in due("SELECT counter, start FROM periods WHERE fold_at <= ? ORDER BY fold_at LIMIT ?")? {
        let sql = "SELECT proxy, used, granted, sequence, seen FROM leases WHERE counter = ? AND start = ?";
        let mut leases = Row::default();
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([counter, start])?;
        while let Some(row) = rows.next()? {
            leases.used = leases.used.saturating_add(row.get("used")?);
            leases.granted = leases.granted.saturating_add(row.get("granted")?);
        }
        fold(connection, counter, start, &leases)?;
        connection.prepare_cached("DELETE FROM leases WHERE counter = ? AND start = ?")?.execute([counter, start])?;
        let sql = "UPDATE periods SET fold_at = NULL WHERE counter = ? AND start = ?";
        connection.prepare_cached(sql)?.execute([counter, start])?;
    }
    for (counter, start) in due("SELECT counter, start FROM periods WHERE expires <= ? ORDER BY expires LIMIT ?")? {
        connection.prepare_cached("DELETE FROM periods WHERE counter = ? AND start = ?")?.execute([counter, start])?;
        let sql = "DELETE FROM counters WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM periods WHERE counter = ?1)";
        connection.prepare_cached(sql)?.execute([counter])?;
    }
    Ok(())
}

/// Keeps of a lease only what it came to, the one that has been silent for longest.
fn fold_one(connection: &Connection, counter: i64, start: i64, now: i64) -> Result<(), Refusal> {
    let sql =
        "SELECT proxy, used, granted, sequence, seen FROM leases WHERE counter = ? AND start = ? ORDER BY seen LIMIT 1";
    let (proxy, row): (String, Row) =
        connection.prepare_cached(sql)?.query_row([counter, start], |row| Ok((row.get("proxy")?, as_row(row)?)))?;
    if row.seen > now.saturating_sub(REMEMBERED) {
        return Err(counts::too_many_proxies());
    }
    fold(connection, counter, start, &row)?;
    let sql = "DELETE FROM leases WHERE counter = ? AND start = ? AND proxy = ?";
    connection.prepare_cached(sql)?.execute(params![counter, start, proxy])?;
    Ok(())
}

fn fold(connection: &Connection, counter: i64, start: i64, leases: &Row) -> Result<(), Refusal> {
    let sql = "SELECT folded_used, folded_granted FROM periods WHERE counter = ? AND start = ?";
    let (used, granted): (i64, i64) =
        connection.prepare_cached(sql)?.query_row([counter, start], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sql = "UPDATE periods SET folded_used = ?, folded_granted = ? WHERE counter = ? AND start = ?";
    let (used, granted) = (used.saturating_add(leases.used), granted.saturating_add(leases.granted));
    connection.prepare_cached(sql)?.execute([used, granted, counter, start])?;
    Ok(())
}

/// What all proxies but one have in a period. They are added up anew each time, in numbers that can't overflow: there are few
/// of them, and a total kept beside them could only ever differ.
fn sums(
    connection: &Connection,
    counter: i64,
    start: i64,
    but: Option<&Identifier>,
    silent_before: i64,
) -> Result<Sums, Refusal> {
    let mut sums = Sums::default();
    let sql = "SELECT base, folded_used, folded_granted FROM periods WHERE counter = ? AND start = ?";
    let period: Option<(i64, i64, i64)> = connection
        .prepare_cached(sql)?
        .query_row([counter, start], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((base, used, granted)) = period else { return Ok(sums) };
    sums.used = i128::from(base).saturating_add(used.into());
    sums.allocated = i128::from(base).saturating_add(granted.into());
    sums.abandoned = i128::from(granted).saturating_sub(used.into());
    let sql = "SELECT used, granted, sequence, seen FROM leases WHERE counter = ? AND start = ? AND proxy IS NOT ?";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![counter, start, but.map(Identifier::as_str)])?;
    while let Some(row) = rows.next()? {
        sums.add(&as_row(row)?, silent_before);
    }
    Ok(sums)
}

/// What a proxy has in a period. For one that has nothing yet there is room after this.
fn row(connection: &Connection, counter: i64, start: i64, proxy: &Identifier, now: i64) -> Result<Row, Refusal> {
    let sql = "SELECT used, granted, sequence, seen FROM leases WHERE counter = ? AND start = ? AND proxy = ?";
    let parameters = params![counter, start, proxy.as_str()];
    let known = connection.prepare_cached(sql)?.query_row(parameters, as_row).optional()?;
    if let Some(row) = known {
        return Ok(row);
    }
    let sql = "SELECT count(*) FROM leases WHERE counter = ? AND start = ?";
    let proxies: i64 = connection.prepare_cached(sql)?.query_row([counter, start], |row| row.get(0))?;
    if proxies >= MAX_PROXIES {
        fold_one(connection, counter, start, now)?;
    }
    Ok(Row::default())
}

fn as_row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        used: row.get("used")?,
        granted: row.get("granted")?,
        sequence: row.get("sequence")?,
        seen: row.get("seen")?,
    })
}

fn save(connection: &Connection, counter: i64, start: i64, proxy: &Identifier, row: &Row) -> Result<(), Refusal> {
    let sql = "INSERT INTO leases (counter, start, proxy, used, granted, sequence, seen) VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET used = excluded.used, granted = excluded.granted, sequence = excluded.sequence,
            seen = excluded.seen";
    let Row { used, granted, sequence, seen } = row;
    connection.prepare_cached(sql)?.execute(params![counter, start, proxy.as_str(), used, granted, sequence, seen])?;
    Ok(())
}
