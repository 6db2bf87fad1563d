//! What the router sees of a text: hidden states as transformers has them, computed once, paid for by the router, and
//! found again in its log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use messplus::energy::Account;
use messplus::engine::{EngineSettings, Event, Job, Sampling};
use messplus::model::{Batch, Compute, Precision, load};
use messplus::units::{ModelId, RequestId, TokenId};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::encoder::folder_of_a_tiny_encoder;
use crate::server::{Server, ask, command};
use crate::support::{MODELS, collect, demo, engine, question, questions, root};

/// The demo models' heads are their embeddings: E·h are the logits.
#[test]
fn logits_are_the_embeddings_times_the_hidden_state_shown() {
    for name in MODELS {
        let mut model = load(&demo(name), Compute::Cpu, Precision::Auto).unwrap();
        let width = model.decoder.hidden_width().unwrap();
        let bytes = std::fs::read(root().join("models/demo").join(name).join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let stored = tensors.tensor("model.embed_tokens.weight").unwrap();
        assert_eq!(
            (stored.dtype(), stored.shape()[1]),
            (safetensors::Dtype::BF16, width)
        );
        let table: Vec<f32> = stored
            .data()
            .chunks_exact(2)
            .map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16))
            .collect();
        (0..8).for_each(|page| model.decoder.materialise_page(page));
        let ids: Vec<TokenId> = (0..45).map(|n| TokenId(6 + n * 7 % 600)).collect();
        let mut batch = Batch::default();
        batch.push(&ids[..9], 0, 9, &[5], false);
        batch.want_hidden();
        batch.push(&ids, 0, 45, &[2, 0], true);
        batch.want_hidden();
        let computed = model.decoder.forward(&batch).unwrap();
        let hidden = computed.hidden_row(1);
        assert_eq!(hidden.len(), width);
        for (row, logit) in table.chunks_exact(width).zip(computed.row(0)) {
            let product: f32 = row.iter().zip(hidden).map(|(e, h)| e * h).sum();
            assert!((product - logit).abs() < 1e-3, "{name}: {product} and {logit}");
        }
        // Alone it is as in company.
        let mut alone = Batch::default();
        alone.push(&ids[..9], 0, 9, &[7], false);
        alone.want_hidden();
        let apart = model.decoder.forward(&alone).unwrap();
        assert_eq!(apart.rows(), 0);
        for (one, other) in apart.hidden_row(0).iter().zip(computed.hidden_row(0)) {
            assert!((one - other).abs() < 1e-5, "{name}");
        }
    }
}

#[test]
fn who_answers_a_prompt_finds_what_was_read_of_it() {
    let (engine, steps) = engine(EngineSettings::default());
    let small = ModelId(0);
    let words = questions()
        .iter()
        .take(5)
        .map(|(q, _)| q.clone())
        .collect::<Vec<_>>()
        .join(" ");
    let prompt = question(&engine, small, &words);
    assert!(prompt.len() > 64, "{}", prompt.len());
    let (text, read) = collect(&mut engine.read(small, prompt.clone()).unwrap()).unwrap();
    assert_eq!(
        (text.as_str(), read.completion_tokens, read.cached_tokens),
        ("", 0, 0)
    );
    assert_eq!(read.hidden.len(), engine.models()[0].hidden_width.unwrap());

    let job = Job {
        account: Account::Request(RequestId(7)),
        model: small,
        prompt: prompt.clone(),
        max_tokens: 4,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        stop: vec![],
        logprobs: None,
        constraint: None,
    };
    let (_, answered) = collect(&mut engine.submit(job).unwrap()).unwrap();
    let full = (prompt.len() as u32 - 1) / 32 * 32;
    assert_eq!((answered.cached_tokens, answered.hidden.len()), (full, 0));
    // Read again, only what follows the full pages is computed, and the state is the same.
    let (_, again) = collect(&mut engine.read(small, prompt.clone()).unwrap()).unwrap();
    assert_eq!(again.cached_tokens, full);
    for (one, other) in read.hidden.iter().zip(&again.hidden) {
        assert!((one - other).abs() < 1e-4);
    }
    let steps = steps.0.lock().unwrap();
    let prefilled = |account: Account| -> u32 {
        let rows = steps.iter().flat_map(|step| &step.rows);
        rows.filter(|row| row.account == account)
            .map(|row| row.prefill_tokens)
            .sum()
    };
    let whole = prompt.len() as u32;
    assert_eq!(prefilled(Account::Router), whole + (whole - full));
    assert_eq!(prefilled(Account::Request(RequestId(7))), whole - full);
}

#[test]
fn reading_beside_answers_changes_none_of_them() {
    let (engine, _) = engine(EngineSettings::default());
    let asked: Vec<_> = questions().into_iter().take(24).collect();
    let job = |at: usize, prompt: Vec<TokenId>| Job {
        account: Account::Request(RequestId(at as u64 + 1)),
        model: ModelId(0),
        prompt,
        max_tokens: 24,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        stop: vec![],
        logprobs: None,
        constraint: None,
    };
    let prompts: Vec<_> = asked
        .iter()
        .map(|(q, _)| question(&engine, ModelId(0), q))
        .collect();
    let alone: Vec<String> = (0..)
        .zip(&prompts)
        .map(|(at, prompt)| {
            collect(&mut engine.submit(job(at, prompt.clone())).unwrap())
                .unwrap()
                .0
        })
        .collect();
    let mut streams = Vec::new();
    for (at, prompt) in (100..).zip(&prompts) {
        streams.push(engine.read(ModelId(0), prompt.clone()).unwrap());
        streams.push(engine.submit(job(at, prompt.clone())).unwrap());
    }
    // A reader that goes away before its turn leaves no trace either.
    drop(engine.read(ModelId(0), prompts[0].clone()).unwrap());
    for (place, stream) in streams.iter_mut().enumerate() {
        let (text, outcome) = collect(stream).unwrap();
        if place % 2 == 0 {
            assert!(outcome.hidden.iter().all(|h| h.is_finite()) && !outcome.hidden.is_empty());
        } else {
            assert_eq!(text, alone[place / 2]);
        }
    }
}

#[test]
fn without_an_encoder_texts_are_refused() {
    let (engine, _) = engine(EngineSettings::default());
    let refusal = engine.encode_text("hello".to_owned()).unwrap_err().to_string();
    assert!(refusal.contains("no encoder is loaded"), "{refusal}");
    let mut stream = engine.read(ModelId(0), vec![TokenId(9)]).unwrap();
    assert!(matches!(stream.blocking_recv(), Some(Event::Done(_))));
}

fn zoo(folder: &Path, router: &str) -> PathBuf {
    let model = |size: &str| format!("[[model]]\nname = \"{size}\"\nsource = \"demo:{size}\"\n");
    let file = folder.join("zoo.toml");
    std::fs::write(
        &file,
        format!("{}[router]\n{router}\n", MODELS.map(model).concat()),
    )
    .unwrap();
    file
}

async fn asked_with_references(server: &Server, count: usize) {
    for (question, reference) in questions().iter().take(count) {
        let mut body = ask("auto", question);
        body["messplus"] = json!({"reference": reference});
        server.chat(body).await;
    }
}

/// Joules by account, once nothing changes them any more but idling.
async fn joules(server: &Server, account: &str) -> f64 {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let energy = server.get("/v1/energy").await;
    let device = &energy["devices"][0];
    let of = |name: &str| device[format!("{name}_joules")].as_f64().unwrap();
    let accounts = ["request", "exploration", "router", "idle", "load", "unattributed"];
    let sum: f64 = accounts.map(of).iter().sum();
    assert!((of("measured") - sum).abs() <= 1e-9 * sum, "{device}");
    of(account)
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_states_reach_the_router_at_its_own_cost_and_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = zoo(folder.path(), "features = \"hidden\"");
    let data = folder.path().join("data");
    let more = ["--zoo", file.to_str().unwrap()];
    let server = Server::start(&data, &more);
    asked_with_references(&server, 60).await;
    server.chat(ask("large", "What is 1 + 1?")).await;
    let features = server.get("/v1/router").await["features"].take();
    let expected = json!({"source": "hidden", "embedding": "hidden:small", "embedded": 60, "missed": 0});
    assert_eq!(features, expected, "a named model needs no choice");
    let spent = joules(&server, "router").await;
    assert!(spent > 0.0);
    println!(
        "{spent} J to the router, {} J to requests",
        joules(&server, "request").await
    );

    let before = server.get("/v1/router").await["slas"].take();
    let body = ask("auto", "What is 12 + 30?");
    let dry_run = server.post("/v1/route", &body).await.1;
    server.kill();
    let server = Server::start(&data, &more);
    assert_eq!(server.get("/v1/router").await["slas"], before);
    let again = server.post("/v1/route", &body).await.1;
    assert_eq!(again["satisfaction"], dry_run["satisfaction"]);
    assert!(
        !again.to_string().contains("embedding\":{"),
        "what the router saw is not shown: {again}"
    );
    assert!(server.interrupt());

    // Under another zoo file the log still opens, and the words alone must do.
    let file = zoo(folder.path(), "features = \"ngrams\"");
    let server = Server::start(&data, &["--zoo", file.to_str().unwrap()]);
    let report = server.get("/v1/router").await;
    assert_eq!(report["features"], json!({"source": "ngrams"}));
    assert_eq!(report["slas"][0]["requests"], before[0]["requests"]);
    assert!(server.interrupt());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_reads_for_the_router() {
    let folder = tempfile::tempdir().unwrap();
    folder_of_a_tiny_encoder(folder.path());
    let file = zoo(
        folder.path(),
        "policy = \"paper\"\nfeatures = \"modernbert\"\nencoder = \"path:modernbert\"",
    );
    let server = Server::start(&folder.path().join("data"), &["--zoo", file.to_str().unwrap()]);
    asked_with_references(&server, 12).await;
    let features = server.get("/v1/router").await["features"].take();
    assert_eq!(
        (&features["source"], &features["embedded"], &features["missed"]),
        (&json!("modernbert"), &json!(12), &json!(0))
    );
    let spent = joules(&server, "router").await;
    assert!(spent > 0.0);
    println!("{spent} J to the router");
    let route = server
        .post("/v1/route", &ask("auto", "Count from 5 to 11."))
        .await
        .1;
    assert_eq!(
        route["stage"], "embedding",
        "the network has seen a label: {route}"
    );
    assert!(server.interrupt());
}

#[test]
fn check_says_who_reads_and_refuses_who_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = folder_of_a_tiny_encoder(folder.path());
    let said = |router: &str| -> (bool, String, Value) {
        let file = zoo(folder.path(), router);
        let run = |more: &[&str]| {
            let mut command = std::process::Command::new(command(folder.path(), &[]).get_program());
            command
                .args(["check", "--zoo"])
                .arg(&file)
                .args(more)
                .output()
                .unwrap()
        };
        let output = run(&[]);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let json = serde_json::from_slice(&run(&["--json"]).stdout).unwrap_or_default();
        (output.status.success(), text, json)
    };
    let (right, text, json) = said("features = \"hidden\"");
    assert!(
        right && text.contains("features: ngrams and the hidden state of small"),
        "{text}"
    );
    assert_eq!(json["features"], json!({"source": "hidden", "model": "small"}));
    let (right, text, json) = said("features = \"modernbert\"\nencoder = \"path:modernbert\"");
    assert!(
        right && text.contains("ngrams and 48 numbers of the encoder at"),
        "{text}"
    );
    assert_eq!(json["features"]["width"], 48);
    std::fs::write(
        encoder.join("config.json"),
        r#"{"model_type": "bert", "architectures": ["BertModel"]}"#,
    )
    .unwrap();
    let (right, text, _) = said("features = \"modernbert\"\nencoder = \"path:modernbert\"");
    assert!(
        !right && text.contains("zoo.toml:12: `router.encoder` cannot be used") && text.contains("BertModel"),
        "{text}"
    );
    let (right, text, _) = said("features = \"modernbert\"\nencoder = \"path:nowhere\"");
    assert!(
        !right && text.contains("zoo.toml:12: `router.encoder` cannot be found"),
        "{text}"
    );
}
