//! `messplus pull` against a stand-in hub on loopback, which redirects, refuses, cuts and lies as told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Segments, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use crate::support::root;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// What the hub does wrong with `model.safetensors`.
#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// Each answer ends after so many bytes.
    Cut(usize),
    /// Bytes are not those of the stated hash.
    OtherBytes,
    /// The whole file whatever range is asked for.
    NoRanges,
    /// A size that is one byte short, and no byte more.
    Short,
}

#[derive(Default)]
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    is_private: bool,
    fault: Mutex<Fault>,
    /// Bodies sent: file and first byte.
    sent: Mutex<Vec<(String, usize)>>,
}

impl Hub {
    fn refuses(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        self.is_private && shown != Some(&format!("Bearer {TOKEN}"))
    }

    fn etag(&self, file: &str) -> String {
        let digest = Sha256::digest(&self.files[file]);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

type Shared = State<Arc<Hub>>;

async fn listing(
    State(hub): Shared,
    Segments((_, name, revision)): Segments<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if hub.refuses(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if name != "tiny" || !["main", COMMIT].contains(&revision.as_str()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let siblings: Vec<_> = hub
        .files
        .keys()
        .map(|name| serde_json::json!({"rfilename": name}))
        .collect();
    axum::Json(serde_json::json!({"sha": COMMIT, "siblings": siblings})).into_response()
}

/// Small files are answered at once, weights by a redirect to where large files are.
async fn resolve(
    State(hub): Shared,
    Segments((_, _, _, file)): Segments<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if hub.refuses(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if !hub.files.contains_key(&file) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let named = [
        ("x-repo-commit", COMMIT.to_owned()),
        ("etag", format!("\"{}\"", hub.etag(&file))),
    ];
    if file.ends_with(".safetensors") {
        let host = headers[header::HOST].to_str().unwrap();
        let linked = [
            ("x-linked-etag", format!("\"{}\"", hub.etag(&file))),
            ("location", format!("http://{host}/large/{file}")),
        ];
        return (StatusCode::FOUND, named, linked, ()).into_response();
    }
    (named, body(&hub, &file, &headers)).into_response()
}

async fn large(State(hub): Shared, Segments(file): Segments<String>, headers: HeaderMap) -> Response {
    body(&hub, &file, &headers)
}

fn body(hub: &Hub, file: &str, headers: &HeaderMap) -> Response {
    let fault = if file.ends_with(".safetensors") {
        *hub.fault.lock().unwrap()
    } else {
        Fault::None
    };
    let mut bytes = hub.files[file].clone();
    if fault == Fault::OtherBytes {
        bytes[0] ^= 1;
    }
    if fault == Fault::Short {
        bytes.pop();
    }
    let size = bytes.len();
    let range = headers.get(header::RANGE).and_then(|v| v.to_str().ok());
    let (first, last) = range
        .and_then(|r| r.strip_prefix("bytes=")?.split_once('-'))
        .unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(size.saturating_sub(1));
    let is_probe = last == 0;
    if !is_probe {
        hub.sent.lock().unwrap().push((file.to_owned(), first));
    }
    let first = if fault == Fault::NoRanges && !is_probe {
        0
    } else {
        first
    };
    let part = bytes[first.min(size)..size.min(last + 1)].to_vec();
    let head = [
        ("content-range", format!("bytes {first}-{last}/{size}")),
        ("content-length", part.len().to_string()),
    ];
    let body = match fault {
        Fault::Cut(at) if !is_probe && part.len() > at => {
            let pieces = [Ok(part[..at].to_vec()), Err(std::io::Error::other("cut"))];
            // What was sent must have arrived before the connection breaks.
            Body::from_stream(futures_util::stream::iter(pieces).then(async |piece| {
                if piece.is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                piece
            }))
        }
        _ => Body::from(part),
    };
    (StatusCode::PARTIAL_CONTENT, head, body).into_response()
}

/// A stand-in that holds the demo zoo's smallest model as `acme/tiny`, and a cache.
struct House {
    hub: Arc<Hub>,
    url: String,
    cache: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl House {
    fn open(change: impl FnOnce(&mut Hub)) -> Self {
        let mut hub = Hub::default();
        for entry in std::fs::read_dir(root().join("models/demo/small")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            hub.files.insert(name, std::fs::read(path).unwrap());
        }
        hub.files.insert("README.md".into(), b"not wanted".to_vec());
        hub.files.insert("pytorch_model.bin".into(), vec![0; 9]);
        change(&mut hub);
        let hub = Arc::new(hub);
        let app = Router::new()
            .route("/api/models/{org}/{name}/revision/{revision}", get(listing))
            .route("/{org}/{name}/resolve/{revision}/{file}", get(resolve))
            .route("/large/{file}", get(large))
            .with_state(hub.clone());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            hub,
            url,
            cache: tempfile::tempdir().unwrap(),
            _runtime: runtime,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_messplus"));
        command
            .args(arguments)
            .env_remove("HF_TOKEN")
            .env("HF_HOME", self.cache.path())
            .env("HF_ENDPOINT", &self.url);
        command
    }

    fn pull(&self, source: &str) -> Output {
        self.command(&["pull", source]).output().unwrap()
    }

    fn fails(&self, source: &str, status: i32, words: &str) {
        let output = self.pull(source);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(last.contains(words), "\"{words}\" is not in: {said}");
    }

    fn succeeds(&self, source: &str) -> String {
        let output = self.pull(source);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn snapshot(&self) -> PathBuf {
        let home = self.cache.path().join("hub/models--acme--tiny");
        home.join("snapshots").join(COMMIT)
    }

    /// The snapshot is the model.
    fn is_whole(&self) {
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            assert!(
                std::fs::read(self.snapshot().join(file)).unwrap() == self.hub.files[file],
                "{file}"
            );
        }
    }

    fn sent(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut *self.hub.sent.lock().unwrap())
    }
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_model_is_fetched_once_and_answers() {
    let house = House::open(|_| {});
    let output = house.pull("hf:acme/tiny");
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("fetched 5 files"), "{said}");
    let progress = String::from_utf8_lossy(&output.stderr).into_owned();
    for file in ["config.json", "model.safetensors"] {
        assert!(progress.contains(&format!("pull: {file}, ")), "{progress}");
    }
    house.is_whole();
    assert!(
        !house.snapshot().join("README.md").exists() && !house.snapshot().join("pytorch_model.bin").exists()
    );
    assert_eq!(house.sent().len(), 5);
    assert!(house.succeeds("hf:acme/tiny").contains("all there"));
    assert!(
        house
            .succeeds(&format!("hf:acme/tiny@{COMMIT}"))
            .contains("all there")
    );
    assert!(house.sent().is_empty(), "a second run fetches nothing");

    let zoo = house.cache.path().join("zoo.toml");
    std::fs::write(&zoo, "[[model]]\nname = \"tiny\"\nsource = \"hf:acme/tiny\"\n").unwrap();
    let zoo = zoo.display().to_string();
    assert!(
        house
            .command(&["pull", "--zoo", &zoo])
            .output()
            .unwrap()
            .status
            .success()
    );
    let offline = |arguments: &[&str]| {
        house
            .command(arguments)
            .env("HF_HUB_OFFLINE", "1")
            .output()
            .unwrap()
    };
    assert!(offline(&["pull", "--zoo", &zoo]).status.success());
    let answer = offline(&["run", "--zoo", &zoo, "--model", "tiny", "What is 1 + 1?"]);
    assert!(
        answer.status.success(),
        "{}",
        String::from_utf8_lossy(&answer.stderr)
    );
    let other = offline(&["pull", "hf:acme/other"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("HF_HUB_OFFLINE"));
}

#[test]
fn what_breaks_off_goes_on_from_there() {
    let house = House::open(|_| {});
    let size = house.hub.files["model.safetensors"].len();
    let step = size / 3;
    *house.hub.fault.lock().unwrap() = Fault::Cut(step);
    house.succeeds("hf:acme/tiny");
    house.is_whole();
    let weights: Vec<usize> = house
        .sent()
        .into_iter()
        .filter(|(file, _)| file == "model.safetensors")
        .map(|(_, first)| first)
        .collect();
    assert!(
        weights.len() >= 3 && weights.windows(2).all(|w| w[0] < w[1]),
        "{weights:?}"
    );

    // A connection that always breaks ends in a sentence, and the next run goes on.
    let house = House::open(|_| {});
    *house.hub.fault.lock().unwrap() = Fault::Cut(size / 20);
    house.fails("hf:acme/tiny", 1, "it goes on from there");
    assert!(!house.snapshot().join("model.safetensors").exists());
    house.sent();
    *house.hub.fault.lock().unwrap() = Fault::None;
    house.succeeds("hf:acme/tiny");
    house.is_whole();
    let sent = house.sent();
    assert!(sent.len() == 1 && sent[0].1 > 0, "{sent:?}");
}

#[test]
fn damaged_files_never_reach_the_cache() {
    let house = House::open(|_| {});
    *house.hub.fault.lock().unwrap() = Fault::OtherBytes;
    house.fails("hf:acme/tiny", 1, "its hash is");
    assert!(!house.snapshot().join("model.safetensors").exists());
    let blobs = house.cache.path().join("hub/models--acme--tiny/blobs");
    let etag = house.hub.etag("model.safetensors");
    assert!(!files_in(&blobs).contains(&etag));
    // So is a file of another size than the hub's own.
    *house.hub.fault.lock().unwrap() = Fault::Short;
    house.fails("hf:acme/tiny", 1, "is damaged and was thrown away");
    assert!(!house.snapshot().join("model.safetensors").exists());
    *house.hub.fault.lock().unwrap() = Fault::None;
    house.succeeds("hf:acme/tiny");
    house.is_whole();

    // A hub that knows no ranges sends the beginning again.
    let house = House::open(|_| {});
    let size = house.hub.files["model.safetensors"].len();
    *house.hub.fault.lock().unwrap() = Fault::Cut(size / 20);
    house.fails("hf:acme/tiny", 1, "broke off");
    *house.hub.fault.lock().unwrap() = Fault::NoRanges;
    house.fails("hf:acme/tiny", 1, "bytes of");
    house.succeeds("hf:acme/tiny");
    house.is_whole();
}

#[test]
fn refusals_say_what_is_wrong() {
    let house = House::open(|_| {});
    house.fails("hf:acme/nothing", 2, "has no revision 'main' in acme/nothing");
    house.fails("hf:acme/tiny@v9", 2, "has no revision 'v9'");
    house.fails("hf:acme/tiny:q8.gguf", 2, "it has no q8.gguf; it has ");
    house.fails("demo:small", 2, "no model of the hub");

    let house = House::open(|hub| hub.is_private = true);
    house.fails("hf:acme/tiny", 1, "HF_TOKEN");
    let told = house
        .command(&["pull", "hf:acme/tiny"])
        .env("HF_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    house.is_whole();

    let house = House::open(|hub| {
        hub.files.remove("model.safetensors");
    });
    house.fails("hf:acme/tiny", 2, "it has no safetensors; it has README.md");
    let gone = house
        .command(&["pull", "hf:acme/tiny"])
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(1));
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(said.contains("check the network or HF_ENDPOINT"), "{said}");
}
