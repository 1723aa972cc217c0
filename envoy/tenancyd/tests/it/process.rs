use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{TOKEN, Tenancyd, command, failed_start};

/// What a writer of its own tenants knows of one of them: the writes that may be the last, oldest first, nothing for a
/// deletion. Only the first was acknowledged.
type Possible = BTreeMap<String, Vec<Option<String>>>;

/// Writes until the server is gone. What is not acknowledged may have happened.
fn write_until_killed(
    address: &str,
    writer: usize,
    mut random: impl FnMut(u64) -> u64,
    possible: &mut Possible,
) -> u32 {
    let mut acknowledged = 0;
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    for number in 0.. {
        let id = format!("w{writer}-{}", random(12));
        let wanted = (random(4) > 0).then(|| {
            format!(
                r#"{{"id":"{id}","slug":"{id}","status":"active","metadata":{{"n":{number},"r":{}}}}}"#,
                random(1_000_000)
            )
        });
        let (method, body) = match &wanted {
            Some(record) => ("PUT", record.as_str()),
            None => ("DELETE", ""),
        };
        let request = format!(
            "{method} /tenants/{id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let states = possible.entry(id).or_insert_with(|| vec![None]);
        states.push(wanted.clone());
        let mut head = [0; 4096];
        let mut length = 0;
        if stream.write_all(request.as_bytes()).is_err() {
            return acknowledged;
        }
        // The whole head, after which an answer counts, and then whatever of the body there is.
        let head_end = loop {
            match stream.read(&mut head[length..]) {
                Ok(0) | Err(_) => return acknowledged,
                Ok(read) => length += read,
            }
            if let Some(end) = head[..length].windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&head[..head_end]).unwrap().to_owned();
        let status = text.get(9..12).unwrap();
        let was_there = states[0].is_some();
        let expected = match (&wanted, was_there) {
            (Some(_), false) => "201",
            (Some(_), true) => "200",
            (None, true) => "204",
            (None, false) => "404",
        };
        assert_eq!(status, expected, "{text}");
        *states = vec![wanted];
        acknowledged += 1;
        let mut left =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0_usize);
        left -= (length - head_end).min(left);
        if stream.read_exact(&mut vec![0; left]).is_err() {
            return acknowledged;
        }
    }
    acknowledged
}

/// Who follows the list across kills.
#[derive(Default)]
struct Reader {
    tenants: BTreeMap<String, String>,
    cursor: Option<String>,
}

impl Reader {
    /// Takes over a page. Whether there is more; nothing once the server is gone.
    fn page(&mut self, server: &Tenancyd) -> Option<bool> {
        let after = self.cursor.as_ref().map_or(String::new(), |cursor| format!("&after={cursor}"));
        let answer = server.try_get(&format!("/tenants?limit=7{after}"))?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        for tenant in page["tenants"].as_array().unwrap() {
            let id = tenant["id"].as_str().unwrap().to_owned();
            match tenant.get("deleted") {
                Some(_) => self.tenants.remove(&id),
                None => self.tenants.insert(id, tenant.to_string()),
            };
        }
        self.cursor = Some(page["latest"].as_str().unwrap().to_owned());
        Some(!page["next"].is_null())
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let seed = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
    println!("seed {seed}");
    let generator = |stream: u64| {
        let mut state = seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    };
    let mut possible = vec![Possible::new(); 3];
    let (mut acknowledged, mut reader) = (0, Reader::default());
    for round in 0..8 {
        let server = Tenancyd::on(&database);
        // What is there now is what was acknowledged, or what was under way when the end came.
        for states in possible.iter_mut().flatten() {
            let answer = server.get(&format!("/tenants/{}", states.0));
            let found = (answer.status == 200).then(|| answer.text.clone());
            assert!(answer.status == 200 || answer.status == 404, "{answer:?}");
            assert!(states.1.contains(&found), "round {round}: {found:?} of {:?}", states.1);
            *states.1 = vec![found];
        }
        // A reader that was told something before the kill was told nothing that isn't so, and misses nothing.
        while reader.page(&server) == Some(true) {}
        let there: BTreeMap<String, String> = possible
            .iter()
            .flatten()
            .filter_map(|(id, states)| {
                Some((id.clone(), serde_json::from_str::<Value>(states[0].as_ref()?).unwrap().to_string()))
            })
            .collect();
        assert_eq!(reader.tenants, there, "round {round}");

        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..)
                .zip(&mut possible)
                .map(|(writer, possible)| {
                    let (address, random) = (server.address.clone(), generator(round * 8 + writer));
                    let writer = usize::try_from(writer).unwrap();
                    scope.spawn(move || write_until_killed(&address, writer, random, possible))
                })
                .collect();
            let (server, reader) = (&server, &mut reader);
            scope.spawn(move || while reader.page(server).is_some() {});
            std::thread::sleep(Duration::from_micros(generator(round * 8 + 7)(300_000)));
            server.signal("KILL");
            acknowledged += writers.into_iter().map(|writer| writer.join().unwrap()).sum::<u32>();
        });
    }
    println!("{acknowledged} writes were acknowledged");
    assert!(acknowledged > 0);
}

#[test]
fn a_stop_lets_a_slow_request_finish_and_takes_no_new_one() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("t.db");
        let server = Tenancyd::on(&database);
        let mut slow = server.connect();
        let head = format!(
            "PUT /tenants/slow HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
        );
        slow.write_all(head.as_bytes()).unwrap();
        let mut proceed = [0; 25];
        slow.read_exact(&mut proceed).unwrap();
        assert_eq!(&proceed, b"HTTP/1.1 100 Continue\r\n\r\n");
        server.signal(signal);
        server.logged("stopping");
        assert!(TcpStream::connect(&server.address).is_err());
        slow.write_all(b"{}").unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        server.logged("stopped");
        assert_eq!(server.ended().code(), Some(0));
        assert!(!folder.path().join("t.db-wal").exists(), "the database is still open");
        assert_eq!(Tenancyd::on(&database).get("/tenants/slow").status, 200);
    }
}

#[test]
fn an_idle_connection_does_not_hold_up_a_stop() {
    let server = Tenancyd::empty();
    let mut silent = server.connect();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
}

/// Both in one test, since each takes ten seconds.
#[test]
fn a_body_that_never_comes_is_given_up_and_a_client_that_never_reads_cannot_hold_up_a_stop() {
    let (serving, stopping) = (Tenancyd::empty(), Tenancyd::empty());
    let mut silent = serving.connect();
    let head =
        format!("PUT /tenants/a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 9\r\n\r\n{{");
    silent.write_all(head.as_bytes()).unwrap();

    let large = serde_json::json!({"metadata": {"note": "x".repeat(200_000)}}).to_string();
    for number in 0..20 {
        stopping.put(&format!("/tenants/{number}"), &large);
    }
    let mut deaf = stopping.connect();
    // More than the sockets' buffers hold.
    deaf.write_all("GET /tenants HTTP/1.1\r\nhost: x\r\n\r\n".repeat(10).as_bytes()).unwrap();
    stopping.logged_with("route", "/tenants");
    let begun = Instant::now();
    stopping.signal("TERM");

    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("REQUEST_TIMEOUT"), "{answer}");
    stopping.logged("some requests didn't finish in time; their connections are cut");
    assert_eq!(stopping.ended().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
}

#[test]
fn a_taken_port_is_one_clear_line_and_leaves_the_database_alone() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let said = failed_start(command(&["--listen", &address]).current_dir(folder.path()));
    assert_eq!(said, format!("tenancyd: can't listen on {address}: something else already does\n"));
    assert!(!folder.path().join("tenancyd.db").exists());
}

#[test]
fn a_start_that_cannot_work_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("text"), "no database at all, but long enough to be looked at".repeat(20)).unwrap();
    std::fs::write(path("token"), "").unwrap();
    rusqlite::Connection::open(path("newer")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    rusqlite::Connection::open(path("foreign")).unwrap().execute("CREATE TABLE theirs (x)", []).unwrap();
    let (none, text, newer, foreign, token) =
        (path("no/db"), path("text"), path("newer"), path("foreign"), path("token"));
    for (arguments, expected) in [
        (["--database", none.as_str()], "unable to open database file"),
        (["--database", &text], "file is not a database"),
        (["--database", &newer], "a newer tenancyd wrote it"),
        (["--database", &foreign], "another program's"),
        (["--token-file", &token], "the token is empty"),
        (["--token-file", &none], "No such file"),
        (["--proxy-token-file", &token], "the token is empty"),
        (["--redis", "nonsense"], "Redis"),
        (["--redis", "rediss://127.0.0.1/0"], "TLS"),
    ] {
        let said = failed_start(command(&["--listen", "127.0.0.1:0"]).args(arguments).current_dir(folder.path()));
        assert!(said.starts_with("tenancyd: ") && said.contains(expected) && said.lines().count() == 1, "{said}");
    }
    let both = failed_start(command(&["--listen", "127.0.0.1:0", "--token-file", &text]).env("TENANCYD_TOKEN", "x"));
    assert!(both.contains("one of them must go"), "{both}");
    let redis = ["--listen", "127.0.0.1:0", "--redis", "redis://127.0.0.1/0"];
    let both = failed_start(command(&redis).env("TENANCYD_REDIS", "redis://:s3cret@127.0.0.1/0"));
    assert!(both.contains("one of them must go") && !both.contains("s3cret"), "{both}");
}

#[test]
fn a_token_on_the_command_line_is_no_option() {
    let output = command(&["--token", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_log_has_one_line_a_request_and_no_secret() {
    let server = Tenancyd::empty();
    server.call("GET", "/tenants/private-name", None, &[("x-request-id", "r-1")]);
    let auth = format!("Bearer {TOKEN}");
    server.call("PUT", "/tenants/acme", Some("{}"), &[("authorization", &auth), ("x-request-id", "bad id \"")]);
    server.call("DELETE", "/tenants/acme", None, &[("authorization", "Bearer wr0ng-token"), ("x-request-id", "r-3")]);
    server.get("/made-up/by-a-client");
    let write = server.logged("tenant put");
    assert_eq!((&write["by"], &write["tenant"]), (&"token".into(), &"acme".into()));
    assert!(write.get("request_id").is_none());
    server.signal("TERM");
    server.logged("stopped");
    let log = server.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<_> = lines.iter().filter(|line| line["message"] == "request").collect();
    let expected = [
        ("GET", "/tenants/{tenantId}", 404, Some("r-1"), Some("NOT_FOUND")),
        ("PUT", "/tenants/{tenantId}", 201, None, None),
        ("DELETE", "/tenants/{tenantId}", 401, Some("r-3"), Some("UNAUTHORIZED")),
        ("GET", "none", 404, None, Some("NOT_FOUND")),
    ];
    assert_eq!(requests.len(), expected.len(), "{log}");
    for (line, (method, route, status, request_id, code)) in requests.iter().zip(expected) {
        assert_eq!((&line["method"], &line["route"], &line["status"]), (&method.into(), &route.into(), &status.into()));
        assert_eq!(line.get("request_id").and_then(|id| id.as_str()), request_id);
        assert_eq!(line.get("code").and_then(|code| code.as_str()), code);
        assert!(line["duration_ms"].as_f64().unwrap() >= 0.0 && line["timestamp"].is_string());
    }
    for secret in [TOKEN, "wr0ng-token", "private-name", "made-up", "bad id"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn the_log_can_be_turned_down() {
    let server = Tenancyd::start(&["--database", ":memory:", "--log", "info,tenancyd::api=error"]);
    server.get("/tenants");
    server.signal("TERM");
    server.logged("stopped");
    assert!(!server.log().contains("\"request\""));
}
