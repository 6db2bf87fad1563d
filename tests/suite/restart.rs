//! What was acknowledged survives `kill -9`, and the router comes back as it was.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::server::{Server, ask, command};
use crate::support::questions;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_decisions_and_feedback_survive_a_kill_in_mid_load() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let asked = questions();
    let client = reqwest::Client::new();
    let (decided, judged) = (Mutex::new(Vec::<String>::new()), Mutex::new(Vec::<String>::new()));
    let worker = |start: usize| {
        let (client, decided, judged, asked, url) = (&client, &decided, &judged, &asked, &server.url);
        async move {
            for (question, reference) in asked.iter().skip(start).step_by(8) {
                let request = client
                    .post(format!("{url}/v1/chat/completions"))
                    .json(&ask("auto", question));
                let Ok(response) = request.send().await else {
                    return;
                };
                let Ok(answer) = response.json::<Value>().await else {
                    return;
                };
                let id = answer["messplus"]["request_id"].as_str().unwrap().to_owned();
                decided.lock().unwrap().push(id.clone());
                let satisfied = answer["choices"][0]["message"]["content"].as_str() == Some(reference);
                let feedback = json!({"request_id": id, "satisfied": satisfied});
                let request = client.post(format!("{url}/v1/feedback")).json(&feedback);
                let Ok(response) = request.send().await else {
                    return;
                };
                if response.status().is_success() {
                    judged.lock().unwrap().push(id);
                }
            }
        }
    };
    let load = futures_util::future::join_all((0..8).map(worker));
    let enough = async {
        while judged.lock().unwrap().len() < 60 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = load => panic!("the questions ran out before the kill"),
        () = enough => {}
    }
    server.kill();
    let (decided, judged) = (decided.into_inner().unwrap(), judged.into_inner().unwrap());

    let server = Server::start(folder.path(), &[]);
    for id in &decided {
        let record = server.get(&format!("/v1/requests/{id}")).await;
        assert!(
            record.get("error").is_none() || record["error"].is_null(),
            "{id} is lost: {record}"
        );
    }
    for id in &judged {
        let record = server.get(&format!("/v1/requests/{id}")).await;
        assert!(
            !record["feedback"].is_null(),
            "the feedback on {id} is lost: {record}"
        );
    }

    // At rest nothing is under way, so the router before a kill and after it can be compared to the last digit.
    let before = server.get("/v1/router").await;
    let dry_run = server.post("/v1/route", &ask("auto", "What is 12 + 30?")).await.1;
    server.kill();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.get("/v1/router").await, before);
    let again = server.post("/v1/route", &ask("auto", "What is 12 + 30?")).await.1;
    let scores = |answer: &Value| -> Value {
        let said = answer.get("messplus").unwrap_or(answer);
        json!([
            said["model"],
            said["satisfaction"],
            said["expected_joules"],
            said["queue"]
        ])
    };
    assert_eq!(scores(&again), scores(&dry_run));
}

#[test]
fn two_processes_on_one_data_folder_the_second_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Server::start(folder.path(), &[]);
    let second = command(folder.path(), &[])
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("messplus: ") && last.contains("another"),
        "{said}"
    );
}
