//! The door against clients that are slow, greedy or gone, and what its owner changes while it is open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, ask, command};

/// A server with `[server]` lines of its own.
fn serve(folder: &Path, lines: &str) -> Server {
    let zoo = format!(
        "[server]\n{lines}\n[energy]\nmeter = \"modelled\"\n[[model]]\nname = \"demo-small\"\nsource = \"demo:small\"\n"
    );
    std::fs::write(folder.join("zoo.toml"), zoo).unwrap();
    let zoo = folder.join("zoo.toml").display().to_string();
    Server::spawn(command(&folder.join("data"), &["--zoo", &zoo]))
}

fn address(server: &Server) -> String {
    server.url.split_once("://").unwrap().1.to_owned()
}

/// An answer of about a second: end tokens are forbidden.
fn long(stream: bool) -> Value {
    let mut body = ask("demo-small", "Count.");
    body["max_tokens"] = json!(200);
    body["logit_bias"] = json!({"5": -100});
    body["stream"] = json!(stream);
    body
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_greedy_clients_are_shown_out_and_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "");
    let address = address(&server);
    let open = || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    };
    // Heads that never end.
    let begun = Instant::now();
    let mut dribbling: Vec<TcpStream> = (0..40).map(|_| open()).collect();
    for stream in &mut dribbling {
        stream
            .write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ")
            .unwrap();
    }
    // A flood of headers, one enormous header, a body of 100 MB.
    let mut flood = open();
    flood.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
    for n in 0..2_000 {
        if flood.write_all(format!("x-{n}: 1\r\n").as_bytes()).is_err() {
            break;
        }
    }
    let _ = flood.write_all(b"\r\n");
    let mut huge = open();
    let _ = huge.write_all(b"GET /health HTTP/1.1\r\nx-a: ");
    let _ = huge.write_all(&vec![b'a'; 4 << 20]);
    for mut stream in [flood, huge] {
        let mut said = String::new();
        // The rest of what was sent may be answered with a reset.
        let _ = stream.read_to_string(&mut said);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    }
    let (status, fault) = server
        .post_raw("/v1/chat/completions", "application/json", " ".repeat(100 << 20))
        .await;
    assert_eq!((status, &fault["error"]["code"]), (413, &json!("body_too_large")));

    // Everybody else is served meanwhile.
    let (status, _) = server
        .post("/v1/chat/completions", &ask("auto", "What is 1 + 1?"))
        .await;
    assert_eq!(status, 200);
    for mut stream in dribbling {
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert!(server.interrupt());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_bounded_and_read_anew_at_a_hangup() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.txt"), "first\n").unwrap();
    let server = serve(folder.path(), "api_keys_file = \"keys.txt\"\nmax_per_key = 1");
    let client = reqwest::Client::new();
    let chat = format!("{}/v1/chat/completions", server.url);
    let send = |key: &str, body: &Value| {
        client
            .post(&chat)
            .header("authorization", bearer(key))
            .json(body)
            .send()
    };

    let mut streaming = send("first", &long(true)).await.unwrap();
    assert_eq!(streaming.status(), 200);
    streaming.chunk().await.unwrap();
    let refused = send("first", &long(false)).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    let fault: Value = refused.json().await.unwrap();
    assert_eq!(fault["error"]["code"], "rate_limit_exceeded");
    // Looking is not bounded, and giving up frees the seat.
    let models = client
        .get(format!("{}/v1/models", server.url))
        .header("authorization", bearer("first"));
    assert_eq!(models.send().await.unwrap().status(), 200);
    drop(streaming);
    let begun = Instant::now();
    while send("first", &ask("demo-small", "What is 1 + 1?"))
        .await
        .unwrap()
        .status()
        == 429
    {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    std::fs::write(folder.path().join("keys.txt"), "second\n").unwrap();
    server.signal("HUP");
    let begun = Instant::now();
    while send("second", &ask("demo-small", "What is 1 + 1?"))
        .await
        .unwrap()
        .status()
        != 200
    {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(send("first", &long(false)).await.unwrap().status(), 401);
    // A file without a key would open the door to everybody: it is not taken.
    std::fs::write(folder.path().join("keys.txt"), "# none\n").unwrap();
    server.signal("HUP");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(send("first", &long(false)).await.unwrap().status(), 401);
    assert!(server.interrupt());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_under_way_ends_whole_when_the_server_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "");
    let client = reqwest::Client::new();
    let chat = format!("{}/v1/chat/completions", server.url);
    let mut streaming = client.post(&chat).json(&long(true)).send().await.unwrap();
    let mut said = streaming.chunk().await.unwrap().unwrap().to_vec();
    server.signal("TERM");
    while let Some(more) = streaming.chunk().await.unwrap() {
        said.extend(more);
    }
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.ends_with("data: [DONE]\n\n") && said.contains("\"finish_reason\":\"length\""),
        "{said}"
    );
    assert!(
        client.post(&chat).json(&long(false)).send().await.is_err(),
        "nothing new is taken"
    );
    assert!(server.ended(), "exit 0");
}

#[test]
fn tls_is_spoken_alone_and_its_certificate_changes_at_a_hangup() {
    let folder = tempfile::tempdir().unwrap();
    let put = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    };
    let first = put();
    let server = serve(folder.path(), "tls_cert = \"cert.pem\"\ntls_key = \"key.pem\"");
    assert!(server.url.starts_with("https://"));
    let port = server.url.rsplit_once(':').unwrap().1.to_owned();
    let trusts = |pem: &str| {
        let root = ureq::tls::Certificate::from_pem(pem.as_bytes()).unwrap();
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
            .build();
        let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
        let answer = agent.get(format!("https://localhost:{port}/health")).call();
        answer.is_ok_and(|answer| answer.status() == 200)
    };
    assert!(trusts(&first));
    let clear = ureq::get(format!("http://localhost:{port}/health")).call();
    assert!(clear.is_err());
    let second = put();
    server.signal("HUP");
    let begun = Instant::now();
    while !trusts(&second) {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!trusts(&first));
    assert!(server.interrupt());

    std::fs::write(folder.path().join("key.pem"), "no key").unwrap();
    let zoo = folder.path().join("zoo.toml").display().to_string();
    let refused = Command::new(env!("CARGO_BIN_EXE_messplus"))
        .args(["serve", "--listen", "127.0.0.1:0", "--zoo", &zoo])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("check server.tls_cert and server.tls_key"),
        "{said}"
    );
}
