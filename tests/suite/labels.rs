//! Whose word counts: agreement with the largest model, a judge of the zoo, and users who are not trusted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, ask};
use crate::support::questions;

/// The demo zoo under a promise with these words more.
fn zoo(folder: &Path, sla: &str) -> PathBuf {
    let model = |size: &str| format!("[[model]]\nname = \"{size}\"\nsource = \"demo:{size}\"\n");
    let models: String = ["small", "medium", "large"].map(model).concat();
    let file = folder.join("zoo.toml");
    std::fs::write(
        &file,
        format!("{models}[[sla]]\nname = \"default\"\nalpha = 0.8\n{sla}\n"),
    )
    .unwrap();
    file
}

fn serve(folder: &Path, sla: &str) -> Server {
    let file = zoo(folder, sla);
    Server::start(&folder.join("data"), &["--zoo", file.to_str().unwrap()])
}

async fn answered(server: &Server, question: &str) -> Value {
    let answer = server.chat(ask("auto", question)).await;
    let id = answer["messplus"]["request_id"].as_str().unwrap().to_owned();
    for _ in 0..200 {
        let record = server.get(&format!("/v1/requests/{id}")).await;
        if record["energy"]["final"] == true {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} is never final");
}

async fn judged(server: &Server) -> f64 {
    server.get("/v1/router").await["slas"][0]["judged"]
        .as_f64()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn explored_answers_are_held_against_the_largest_models() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "labels = { agreement = 0.5 }");
    let mut seen = 0;
    for (question, _) in questions().iter().take(60) {
        let record = answered(&server, question).await;
        let answers = record["answers"].as_array().unwrap();
        // The largest model's word is held against nothing where it was tried alone.
        if record["decision"]["explored"] != true || (answers.len() == 1 && record["model"] == "large") {
            assert!(answers.iter().all(|answer| answer["label"].is_null()), "{record}");
            continue;
        }
        let of = |model: &str| answers.iter().find(|answer| answer["model"] == model);
        assert_eq!(
            of("large").expect("the referee answers")["label"],
            1.0,
            "{record}"
        );
        for answer in answers {
            assert_eq!(
                (&answer["label_source"], &answer["label_weight"]),
                (&json!("agreement"), &json!(0.5))
            );
            seen += 1;
        }
        if seen >= 12 {
            break;
        }
    }
    assert!(seen >= 12, "{seen} labels");
    assert!(judged(&server).await > 0.0);
    assert!(server.interrupt());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_gives_verdicts_whose_joules_are_exploration() {
    let folder = tempfile::tempdir().unwrap();
    let sla = "labels = { judge = 0.7 }\njudge = \"medium\"\njudge_share = 1.0";
    let server = serve(folder.path(), sla);
    for (question, _) in questions().iter().take(6) {
        let record = answered(&server, question).await;
        for answer in record["answers"].as_array().unwrap() {
            assert_eq!(answer["label_source"], "judge", "{record}");
            assert!([0.0, 1.0].contains(&answer["label"].as_f64().unwrap()));
            assert_eq!(answer["label_weight"], 0.7);
        }
        assert!(
            record["energy"]["exploration_joules"].as_f64().unwrap() > 0.0,
            "{record}"
        );
    }
    assert!((judged(&server).await - 6.0 * 0.7).abs() < 1e-9);
    let reference = json!({"model": "auto", "messages": [{"role": "user", "content": "What is 1 + 1?"}],
        "messplus": {"reference": "2"}});
    let said = server.chat(reference).await;
    let id = said["messplus"]["request_id"].as_str().unwrap();
    let record = server.get(&format!("/v1/requests/{id}")).await;
    assert_eq!(
        record["answers"][0]["label_source"], "reference",
        "a reference needs no judge"
    );
    assert!(server.interrupt());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_not_trusted_is_heard_but_not_learnt_from_and_the_past_can_be_forgiven() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "labels = { user = 0 }");
    let record = answered(&server, &questions()[0].0).await;
    let told = json!({"request_id": record["id"], "satisfied": true});
    assert_eq!(server.post("/v1/feedback", &told).await.0, 200);
    assert_eq!(judged(&server).await, 0.0);
    let id = record["id"].as_str().unwrap();
    let record = server.get(&format!("/v1/requests/{id}")).await;
    assert_eq!(record["feedback"]["satisfied"], 1.0);

    assert_eq!(server.get("/v1/router").await["slas"][0]["requests"], 1);
    let (status, report) = server.post("/v1/router/reset", &json!({"sla": "default"})).await;
    assert_eq!((status, &report["requests"]), (200, &json!(0)), "{report}");
    let (status, fault) = server.post("/v1/router/reset", &json!({"sla": "gold"})).await;
    assert_eq!(
        (status, &fault["error"]["param"]),
        (400, &json!("sla")),
        "{fault}"
    );
    assert!(server.interrupt());
}
