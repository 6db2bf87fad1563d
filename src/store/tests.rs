//! Faults and races on real files.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn record(id: u64) -> RequestRecord {
    RequestRecord::new(
        RequestId(id),
        id as f64,
        "auto",
        if id.is_multiple_of(2) { "small" } else { "large" },
    )
}

fn said(satisfied: f64) -> FeedbackRecord {
    FeedbackRecord {
        satisfied,
        source: "user".into(),
        at: 1.5,
    }
}

#[test]
fn everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, found) = Store::open(folder.path()).unwrap();
    assert_eq!(
        found,
        Recovered {
            snapshot: None,
            events: vec![],
            ledger: None
        }
    );
    let first = store.append(vec![json!({"n": 1}), json!({"n": 0.1 + 0.2})], Some(record(1)));
    assert_eq!(first.seq(), 2);
    assert_eq!(first.wait(), Ok(2));
    let receipt = store
        .feedback(RequestId(1), said(0.25), vec![json!("judged")])
        .unwrap();
    assert_eq!(receipt.outcome, FeedbackOutcome::Recorded);
    assert_eq!(receipt.commit.wait(), Ok(3));
    let mut again = record(1);
    again.completion_tokens = 7;
    store.put_request(again.clone()).wait().unwrap();
    store.save_ledger(&json!({"uj": 5})).wait().unwrap();
    drop(store);
    let (store, found) = Store::open(folder.path()).unwrap();
    assert_eq!(
        found.events,
        vec![
            (1, json!({"n": 1})),
            (2, json!({"n": 0.1 + 0.2})),
            (3, json!("judged"))
        ]
    );
    assert_eq!(found.ledger, Some(json!({"uj": 5})));
    again.feedback = Some(said(0.25));
    assert_eq!(store.request(RequestId(1)).unwrap(), Some(again));
    assert_eq!(store.request(RequestId(2)).unwrap(), None);
    assert_eq!(store.append(vec![json!(4)], None).wait(), Ok(4));
    store.close();
    assert_eq!(store.append(vec![json!(5)], None).wait(), Err(StoreError::Closed));
}

#[test]
fn a_snapshot_prunes_only_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    for n in 1..=10 {
        drop(store.append(vec![json!(n)], None));
    }
    store.snapshot(6, &json!("after six")).wait().unwrap();
    store.snapshot(4, &json!("too late")).wait().unwrap();
    drop(store);
    let (store, found) = Store::open(folder.path()).unwrap();
    assert_eq!(found.snapshot, Some((6, json!("after six"))));
    assert_eq!(found.events, (7..=10).map(|n| (n, json!(n))).collect::<Vec<_>>());
    store.snapshot(store.last_seq(), &json!("all")).wait().unwrap();
    drop(store);
    let (store, found) = Store::open(folder.path()).unwrap();
    assert!(found.events.is_empty());
    assert_eq!(
        store.append(vec![json!(11)], None).seq(),
        11,
        "numbers go on after everything was pruned"
    );
}

#[test]
fn feedback_is_idempotent_and_contradictions_lose() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let unknown = store.feedback(RequestId(9), said(1.0), vec![json!(0)]).unwrap();
    assert_eq!(unknown.outcome, FeedbackOutcome::Unknown);
    for id in 1..=40u64 {
        // Not awaited: the record is still in flight when the feedbacks race for it.
        drop(store.append(vec![], Some(record(id))));
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let send = |satisfied: f64| {
                let receipt = store
                    .feedback(RequestId(id), said(satisfied), vec![json!(satisfied)])
                    .unwrap();
                let outcome = receipt.outcome;
                receipt.commit.wait().unwrap();
                (satisfied, outcome)
            };
            let threads: Vec<_> = [0.0, 1.0, 1.0, 0.0].map(|s| scope.spawn(move || send(s))).into();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let winner = outcomes
            .iter()
            .find(|(_, o)| *o == FeedbackOutcome::Recorded)
            .unwrap()
            .0;
        assert_eq!(
            outcomes
                .iter()
                .filter(|(_, o)| *o == FeedbackOutcome::Recorded)
                .count(),
            1
        );
        for (satisfied, outcome) in outcomes {
            let contradicts = outcome == FeedbackOutcome::Contradicts { was: winner };
            assert_eq!(contradicts, satisfied != winner, "{outcome:?}");
        }
        assert_eq!(
            store
                .request(RequestId(id))
                .unwrap()
                .unwrap()
                .feedback
                .unwrap()
                .satisfied,
            winner
        );
    }
    drop(store);
    let (_, found) = Store::open(folder.path()).unwrap();
    assert_eq!(found.events.len(), 40, "one event a request, whoever won");
}

#[test]
fn many_writers_share_commits_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let commits: Vec<_> = (1..=3000u64)
            .map(|n| store.append(vec![json!(n)], Some(record(n))))
            .collect();
        for (at, commit) in commits.into_iter().enumerate() {
            assert_eq!(commit.await, Ok(at as u64 + 1));
        }
    });
    let page = store
        .requests(&Filter {
            limit: 3,
            ..Filter::default()
        })
        .unwrap();
    assert_eq!(
        page.iter().map(|r| r.id.0).collect::<Vec<_>>(),
        [3000, 2999, 2998]
    );
    let filter = Filter {
        model: Some("small".into()),
        before: Some(RequestId(2998)),
        limit: 2,
        sla: None,
    };
    let page = store.requests(&filter).unwrap();
    assert_eq!(page.iter().map(|r| r.id.0).collect::<Vec<_>>(), [2996, 2994]);
    let mut csv = vec![];
    store
        .export_csv(&["small".into(), "large".into()], &mut csv)
        .unwrap();
    assert_eq!(csv.iter().filter(|b| **b == b'\n').count(), 3001);
}

#[test]
fn the_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let second = Store::open(folder.path()).map(|_| ());
    assert_eq!(second, Err(StoreError::Busy(folder.path().to_owned())));
    drop(store);
    assert!(Store::open(folder.path()).is_ok());
}

#[test]
fn unusable_folders_and_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(
        Store::open(&file).map(|_| ()),
        Err(StoreError::Folder { .. })
    ));
    std::fs::write(
        schema::database(folder.path()),
        "this is no database, and long enough to be none. ".repeat(50),
    )
    .unwrap();
    assert!(matches!(
        Store::open(folder.path()).map(|_| ()),
        Err(StoreError::Corrupt { .. })
    ));

    let newer = tempfile::tempdir().unwrap();
    drop(Store::open(newer.path()).unwrap());
    let raw = rusqlite::Connection::open(schema::database(newer.path())).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let error = Store::open(newer.path()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("upgrade messplus"), "{error}");
}

#[test]
fn a_damaged_page_is_an_error_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    for n in 1..=2000u64 {
        drop(store.append(vec![json!({"text": "x".repeat(200), "n": n})], None));
    }
    drop(store);
    let path = schema::database(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[8192..length].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(folder.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn a_full_disk_acknowledges_nothing_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let lock = schema::lock(folder.path()).unwrap();
    let path = schema::database(folder.path());
    let connection = schema::writer(&path).unwrap();
    connection.pragma_update(None, "max_page_count", 24).unwrap();
    let (outbox, inbox) = mpsc::channel();
    let flight = Arc::new(Mutex::new(Flight::new(1)));
    let writer = Writer {
        connection,
        path: path.clone(),
        inbox,
        flight: flight.clone(),
        _lock: lock,
    };
    let thread = std::thread::spawn(move || writer.run());
    let reader = Mutex::new(Reader {
        connection: schema::reader(&path).unwrap(),
        path,
    });
    let store = Store {
        inner: Arc::new(Inner {
            outbox,
            flight,
            reader,
            thread: Mutex::new(Some(thread)),
        }),
    };
    let big = json!("y".repeat(200_000));
    store
        .append(vec![json!("small")], Some(record(1)))
        .wait()
        .unwrap();
    let refused = store.append(vec![big], None).wait().unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    let receipt = store
        .feedback(RequestId(1), said(1.0), vec![json!("z".repeat(200_000))])
        .unwrap();
    assert_eq!(receipt.outcome, FeedbackOutcome::Recorded);
    assert!(receipt.commit.wait().is_err());
    let retried = store.feedback(RequestId(1), said(1.0), vec![json!("z")]).unwrap();
    assert_eq!(
        retried.outcome,
        FeedbackOutcome::Recorded,
        "what failed was never said"
    );
    retried.commit.wait().unwrap();
    drop(store);
    let (_, found) = Store::open(folder.path()).unwrap();
    assert_eq!(
        found.events.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(),
        [json!("small"), json!("z")]
    );
}

const CHILD: &str = "MESSPLUS_STORE_TEST_FOLDER";

/// Not a test by itself: the process that the next test kills. It acknowledges commits by creating files.
#[test]
fn child_that_is_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = Path::new(&folder);
    let (store, _) = Store::open(&folder.join("data")).unwrap();
    for n in 1..1_000_000u64 {
        store.append(vec![json!(n)], Some(record(n))).wait().unwrap();
        let receipt = store.feedback(RequestId(n), said(1.0), vec![]).unwrap();
        receipt.commit.wait().unwrap();
        std::fs::write(folder.join("acknowledged.new"), n.to_string()).unwrap();
        std::fs::rename(folder.join("acknowledged.new"), folder.join("acknowledged")).unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_is_killed", "--test-threads=1"])
        .env(CHILD, folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let acknowledged = || {
        let text = std::fs::read_to_string(folder.path().join("acknowledged")).unwrap_or_default();
        text.parse::<u64>().unwrap_or(0)
    };
    let start = Instant::now();
    while acknowledged() < 30 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let last = acknowledged();
    assert!(last >= 30, "the child never got going");
    let (store, found) = Store::open(&folder.path().join("data")).unwrap();
    let numbers: Vec<_> = found
        .events
        .iter()
        .map(|(_, event)| event.as_u64().unwrap())
        .collect();
    assert!(numbers.len() as u64 >= last && numbers.iter().enumerate().all(|(at, n)| *n == at as u64 + 1));
    for n in 1..=last {
        assert_eq!(
            store.request(RequestId(n)).unwrap().unwrap().feedback,
            Some(said(1.0)),
            "{n} of {last}"
        );
    }
}
