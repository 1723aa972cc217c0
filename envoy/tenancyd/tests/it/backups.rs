//! Copies of a running database, and the way back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::client::{Tenancyd, command, failed_start};

#[test]
fn a_back_up_made_under_writes_is_whole_and_can_be_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let (database, copy) = (folder.path().join("t.db"), folder.path().join("copy.db"));
    let (database_name, copy_name) = (database.to_str().unwrap(), copy.to_str().unwrap());
    let server = Tenancyd::on(&database);
    let large = json!({"metadata": {"note": "x".repeat(20_000)}}).to_string();
    for number in 0..50 {
        server.put(&format!("/tenants/before-{number}"), &large);
    }
    server.put("/domains/app.example", r#"{"tenantId":"before-7"}"#);
    server.put("/tenants/gone", "{}");
    let known = server.get("/tenants").json()["latest"].as_str().unwrap().to_owned();
    server.delete("/tenants/gone");

    // Two writers, each of which writes pairs one after the other.
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let output = std::thread::scope(|scope| {
        for writer in 0..2 {
            let (server, stop, written) = (&server, &stop, &written);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    assert_eq!(server.put(&format!("/tenants/w{writer}-{number:05}"), "{}").status, 201);
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while written.load(Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        let output = command(&["backup", copy_name, "--database", database_name]).output().unwrap();
        let at_the_end = written.load(Ordering::Relaxed);
        while written.load(Ordering::Relaxed) < at_the_end + 20 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        output
    });
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let after = server.get("/tenants?limit=1000").json();
    server.signal("TERM");
    assert!(server.ended().success());
    let mut files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["copy.db", "t.db"]);

    // The way back that the README tells.
    std::fs::rename(&database, folder.path().join("old.db")).unwrap();
    std::fs::copy(&copy, &database).unwrap();
    let server = Tenancyd::on(&database);
    for number in 0..50 {
        let expected = format!(
            r#"{{"id":"before-{number}","slug":"before-{number}","status":"active",{}"#,
            large.trim_start_matches('{')
        );
        assert_eq!(server.get(&format!("/tenants/before-{number}")).text, expected);
    }
    assert_eq!(server.get("/domains/app.example").json(), json!({"tenantId": "before-7"}));
    let restored = server.get("/tenants?limit=1000").json();
    let of = |page: &serde_json::Value, writer: usize| -> Vec<String> {
        let ids = page["tenants"].as_array().unwrap().iter().map(|tenant| tenant["id"].as_str().unwrap().to_owned());
        ids.filter(|id| id.starts_with(&format!("w{writer}-"))).collect()
    };
    for writer in 0..2 {
        let (restored, after) = (of(&restored, writer), of(&after, writer));
        assert!(!restored.is_empty() && restored.len() < after.len(), "{} of {}", restored.len(), after.len());
        assert_eq!(restored, after[..restored.len()], "one moment of a writer's work");
    }
    // Who knew what the copy knows goes on; who had seen more begins again.
    let later = server.get(&format!("/tenants?after={known}")).json();
    assert_eq!(later["tenants"][0], json!({"id": "gone", "deleted": true}));
    let ahead = after["latest"].as_str().unwrap();
    let revision = |cursor: &str| cursor.split_once('-').unwrap().1.parse::<u64>().unwrap();
    server.get(&format!("/tenants?after={ahead}")).refused(410, "GONE");
    // Nor is it taken for known once the same numbers have gone to other changes.
    for number in 0.. {
        server.put("/tenants/new", &format!(r#"{{"slug":"new-{number}"}}"#));
        let newest = server.get("/tenants?limit=1000").json()["latest"].as_str().unwrap().to_owned();
        if revision(&newest) > revision(ahead) {
            break;
        }
    }
    let details = server.get(&format!("/tenants?after={ahead}")).refused(410, "GONE");
    assert_eq!(details, json!({"reason": "foreign"}));
}

#[test]
fn a_back_up_that_cannot_be_made_says_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (database, copy, none, taken, text) =
        (path("t.db"), path("copy.db"), path("none"), path("taken"), path("text"));
    drop(Tenancyd::on(database.as_ref()));
    std::fs::write(&taken, "mine").unwrap();
    std::fs::write(&text, "no database at all, but long enough to be looked at".repeat(20)).unwrap();
    rusqlite::Connection::open(path("foreign")).unwrap().execute("CREATE TABLE theirs (x)", []).unwrap();
    for (file, database, expected) in [
        (copy.as_str(), none.as_str(), "unable to open database file"),
        (&copy, ":memory:", "nothing to back up"),
        (&copy, &text, "file is not a database"),
        (&copy, &path("foreign"), "no database of tenancyd"),
        (&taken, &database, "there is something already"),
        (&path("no/copy.db"), &database, "unable to open database"),
    ] {
        let said = failed_start(&mut command(&["backup", file, "--database", database]));
        assert!(said.starts_with("tenancyd: ") && said.contains(expected) && said.lines().count() == 1, "{said}");
    }
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "mine");
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("copy") && !name.contains("none") && !name.contains("part"), "{name}");
    }
}
