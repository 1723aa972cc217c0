//! How readers follow the list of tenants.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::client::Tenancyd;

/// Somebody who holds all tenants, as the filter does.
#[derive(Default)]
struct Reader {
    tenants: BTreeMap<String, Value>,
    cursor: Option<String>,
}

impl Reader {
    /// One page, applied; whether there is more.
    fn page(&mut self, server: &Tenancyd, limit: usize) -> bool {
        let after = self.cursor.as_ref().map_or(String::new(), |cursor| format!("&after={cursor}"));
        let answer = server.get(&format!("/tenants?limit={limit}{after}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let is_first = self.cursor.is_none();
        for tenant in page["tenants"].as_array().unwrap() {
            let id = tenant["id"].as_str().unwrap().to_owned();
            if tenant.get("deleted").is_some() {
                assert!(!is_first, "{answer:?}");
                assert_eq!(*tenant, json!({"id": id, "deleted": true}));
                self.tenants.remove(&id);
            } else {
                self.tenants.insert(id, tenant.clone());
            }
        }
        self.cursor = Some(page["latest"].as_str().unwrap().to_owned());
        assert!(page["next"].is_null() || page["next"] == page["latest"], "{answer:?}");
        !page["next"].is_null()
    }

    fn follow(&mut self, server: &Tenancyd, limit: usize) {
        while self.page(server, limit) {}
    }

    fn is_gone(&self, server: &Tenancyd) -> Value {
        server.get(&format!("/tenants?after={}", self.cursor.as_ref().unwrap())).refused(410, "GONE")["reason"].clone()
    }
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["tenants"].as_array().unwrap().iter().map(|tenant| tenant["id"].as_str().unwrap()).collect()
}

/// All that a server has, by another way than the list.
fn truth(database: &Path) -> BTreeMap<String, Value> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection.prepare("SELECT id, record FROM tenants").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
    rows.map(|row| row.map(|(id, record)| (id, serde_json::from_str(&record).unwrap())).unwrap()).collect()
}

#[test]
fn the_pages_of_2500_tenants_have_each_of_them_once() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed.json");
    let expected: Vec<String> = (0..2500).rev().map(|number| format!("t-{number:04}")).collect();
    let tenants: Vec<Value> = expected.iter().map(|id| json!({"id": id})).collect();
    std::fs::write(&seed, json!({"tenants": tenants}).to_string()).unwrap();
    let server = Tenancyd::start(&["--database", ":memory:", "--seed", seed.to_str().unwrap()]);

    for (limit, pages) in [("", 25), ("&limit=1000", 3), ("&limit=250", 10)] {
        let (mut seen, mut count, mut after) = (Vec::new(), 0, String::new());
        loop {
            let page = server.get(&format!("/tenants?{after}{limit}")).json();
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            count += 1;
            match &page["next"] {
                Value::Null => break,
                next => after = format!("after={}", next.as_str().unwrap()),
            }
        }
        assert_eq!((count, &seen), (pages, &expected), "{limit}");
    }
}

#[test]
fn later_only_what_changed_is_told_in_the_order_of_the_changes() {
    let server = Tenancyd::empty();
    let mut reader = Reader::default();
    reader.follow(&server, 10);
    for id in ["a", "b", "c", "d"] {
        server.put(&format!("/tenants/{id}"), "{}");
    }
    let all = server.get("/tenants").json();
    assert_eq!((ids(&all), &all["next"]), (vec!["a", "b", "c", "d"], &Value::Null));
    let later = |expected: Value| {
        let answer = server.get(&format!("/tenants?after={}", all["latest"].as_str().unwrap())).json();
        assert_eq!((&answer["tenants"], &answer["next"]), (&expected, &Value::Null));
    };
    later(json!([]));
    server.put("/tenants/a", "{}");
    server.put("/domains/a.example", r#"{"tenantId":"a"}"#);
    later(json!([]));
    server.put("/tenants/b/status", r#"{"status":"inactive"}"#);
    server.put("/tenants/a", r#"{"slug":"z"}"#);
    server.delete("/tenants/d");
    server.put("/tenants/e", "{}");
    server.delete("/tenants/e");
    server.put("/tenants/c", r#"{"slug":"y"}"#);
    server.delete("/tenants/c");
    server.put("/tenants/c", "{}");
    later(json!([
        {"id": "b", "slug": "b", "status": "inactive"},
        {"id": "a", "slug": "z", "status": "active"},
        {"id": "d", "deleted": true},
        {"id": "e", "deleted": true},
        {"id": "c", "slug": "c", "status": "active"},
    ]));
    assert_eq!(ids(&server.get("/tenants").json()), ["b", "a", "c"]);
    // One who knew nothing is told of nobody who is gone but of those who went since.
    reader.follow(&server, 2);
    assert_eq!(reader.tenants.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn a_failed_write_is_no_change() {
    let server = Tenancyd::empty();
    server.put("/tenants/a", "{}");
    let before = server.get("/tenants").json();
    server.put("/tenants/b", r#"{"slug":"a"}"#).refused(409, "CONFLICT");
    server.delete("/tenants/b").refused(404, "NOT_FOUND");
    assert_eq!(server.get("/tenants").json(), before);
}

#[test]
fn whoever_reads_while_tenants_change_ends_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let server = Tenancyd::on(&database);
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut readers: Vec<Reader> = (0..4).map(|_| Reader::default()).collect();
    for step in 0..600 {
        let id = random(40);
        match random(6) {
            0 => drop(server.delete(&format!("/tenants/t{id}"))),
            1 | 2 => {
                let status = server.put(&format!("/tenants/t{id}"), &json!({"metadata": {"step": step}}).to_string());
                assert!(status.status < 300);
            }
            _ => {
                let reader = &mut readers[usize::try_from(random(4)).unwrap()];
                reader.page(&server, 1 + usize::try_from(random(7)).unwrap());
            }
        }
        if random(150) == 0 {
            readers[0] = Reader::default();
        }
    }
    let truth = truth(&database);
    for reader in &mut readers {
        reader.follow(&server, 5);
        assert_eq!(reader.tenants, truth);
    }
}

#[test]
fn a_restart_costs_readers_nothing_and_a_seed_that_is_loaded_again_neither() {
    let folder = tempfile::tempdir().unwrap();
    let (database, seed) = (folder.path().join("t.db"), folder.path().join("seed.json"));
    std::fs::write(&seed, r#"{"tenants":[{"id":"a"},{"id":"b"}]}"#).unwrap();
    let start = || Tenancyd::start(&["--database", database.to_str().unwrap(), "--seed", seed.to_str().unwrap()]);
    let mut server = start();
    let (mut done, mut amid) = (Reader::default(), Reader::default());
    done.follow(&server, 10);
    assert!(amid.page(&server, 1));
    for round in 0..3 {
        server.kill();
        server = start();
        let more = server.get(&format!("/tenants?after={}", done.cursor.as_ref().unwrap())).json();
        assert_eq!(more["tenants"], json!([]), "{round}");
    }
    server.put("/tenants/c", "{}");
    server.delete("/tenants/a");
    for mut reader in [done, amid] {
        reader.follow(&server, 1);
        assert_eq!(reader.tenants.keys().collect::<Vec<_>>(), ["b", "c"]);
    }
}

#[test]
fn a_cursor_of_another_history_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (database, old) = (folder.path().join("t.db"), folder.path().join("old.db"));
    let mut server = Tenancyd::on(&database);
    server.put("/tenants/a", "{}");
    let (mut before, mut behind) = (Reader::default(), Reader::default());
    before.follow(&server, 10);
    behind.follow(&server, 10);
    server.kill();
    // The plainest back-up there is, of a server that is down; the tool's own is tested elsewhere.
    for suffix in ["", "-wal"] {
        std::fs::copy(folder.path().join(format!("t.db{suffix}")), folder.path().join(format!("old.db{suffix}")))
            .unwrap();
    }
    server = Tenancyd::on(&database);
    let mut amid = Reader::default();
    server.put("/tenants/lost", "{}");
    assert!(amid.page(&server, 1));
    before.follow(&server, 10);
    assert_eq!(before.tenants.len(), 2);
    drop(server);

    // The older one, which gives the same revisions to other changes.
    let server = Tenancyd::on(&old);
    for id in ["b", "c", "d"] {
        server.put(&format!("/tenants/{id}"), "{}");
    }
    assert_eq!(before.is_gone(&server), "foreign");
    assert_eq!(amid.is_gone(&server), "foreign");
    // What this one knows was true before the two parted.
    behind.follow(&server, 10);
    assert_eq!(behind.tenants.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);

    let other = Tenancyd::empty();
    assert_eq!(behind.is_gone(&other), "foreign");
    let made_up = server.get(&format!("/tenants?after={}9", behind.cursor.unwrap()));
    assert_eq!(made_up.refused(410, "GONE"), json!({"reason": "foreign"}));
}

#[test]
fn deletions_are_forgotten_after_a_week_and_a_cursor_from_before_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let mut server = Tenancyd::on(&database);
    for id in ["a", "b", "c", "d"] {
        server.put(&format!("/tenants/{id}"), "{}");
    }
    let (mut before, mut between, mut amid) = (Reader::default(), Reader::default(), Reader::default());
    before.follow(&server, 10);
    server.delete("/tenants/a");
    between.follow(&server, 10);
    server.delete("/tenants/b");
    assert!(amid.page(&server, 1));
    server.kill();
    let connection = Connection::open(&database).unwrap();
    let aged = connection.execute(
        "UPDATE changes SET deleted_at = unixepoch() - CASE tenant_id WHEN 'a' THEN 604860 ELSE 604700 END WHERE deleted_at IS NOT NULL",
        [],
    );
    assert_eq!(aged, Ok(2));
    let server = Tenancyd::on(&database);
    assert_eq!(before.is_gone(&server), "purged");
    for reader in [&mut between, &mut amid, &mut Reader::default()] {
        reader.follow(&server, 1);
        assert_eq!(reader.tenants.keys().collect::<Vec<_>>(), ["c", "d"]);
    }
}

#[test]
fn deletions_are_forgotten_where_they_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let server = Tenancyd::on(&database);
    let mut before = Reader::default();
    before.follow(&server, 10);
    let connection = Connection::open(&database).unwrap();
    let many = "BEGIN; INSERT INTO changes (tenant_id, deleted_at)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100300) SELECT 't' || i, unixepoch() FROM n; COMMIT;";
    connection.execute_batch(many).unwrap();
    let mut begun = Reader::default();
    for number in 0..256 {
        server.put("/tenants/x", &format!(r#"{{"slug":"x{number}"}}"#));
        server.delete("/tenants/x");
        if number == 0 {
            begun.follow(&server, 10);
        }
    }
    let left: i64 = connection.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
    assert!((100_000..=100_256).contains(&left), "{left}");
    assert_eq!(before.is_gone(&server), "purged");
    begun.follow(&server, 10);
    assert!(begun.tenants.is_empty());
}

#[test]
fn a_database_of_version_1_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    Connection::open(&database).unwrap().execute_batch(include_str!("version-1.sql")).unwrap();
    let server = Tenancyd::on(&database);
    let all = server.get("/tenants").json();
    assert_eq!(
        all["tenants"],
        json!([
            {"id": "acme", "slug": "a", "status": "active", "metadata": {"plan": "pro"}},
            {"id": "globex", "slug": "globex", "status": "suspended"},
        ])
    );
    assert_eq!(server.get("/domains/app.acme.com").json(), json!({"tenantId": "acme"}));
    server.delete("/tenants/globex");
    let later = server.get(&format!("/tenants?after={}", all["latest"].as_str().unwrap())).json();
    assert_eq!(later["tenants"], json!([{"id": "globex", "deleted": true}]));
}
