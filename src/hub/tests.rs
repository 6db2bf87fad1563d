use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::DEMO_MODELS;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn put(folder: &Path, files: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for file in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"GGUF....").unwrap();
    }
}

/// A cache that holds `a/b` at [`COMMIT`], which is its `main`.
fn cache(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("models--a--b");
    let snapshot = home.join("snapshots").join(COMMIT);
    put(&snapshot, files);
    fs::create_dir_all(home.join("refs/refs/pr")).unwrap();
    fs::write(home.join("refs/main"), format!("{COMMIT}\n")).unwrap();
    fs::write(home.join("refs/refs/pr/3"), COMMIT).unwrap();
    (dir, snapshot)
}

fn hub(text: &str, root: &Path) -> Result<Located, HubError> {
    cache::locate(&text.parse().unwrap(), root)
}

const WHOLE: &[&str] = &["config.json", "tokenizer.json", "model.safetensors"];

#[test]
fn the_demo_zoo_is_inside() {
    for name in DEMO_MODELS {
        let Located::Embedded(files) = locate(&Source::Demo(name.into())).unwrap() else {
            panic!("embedded")
        };
        assert_eq!(files.len(), 5);
        assert!(files.iter().all(|(_, bytes)| !bytes.is_empty()), "{name}");
    }
    assert!(locate(&Source::Demo("huge".into())).is_err());
    for line in DEMO_QUESTIONS.lines() {
        let question: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["task", "question", "reference"] {
            assert!(question[key].is_string(), "{line}");
        }
    }
}

#[test]
fn a_folder_must_be_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("m");
    let source = Source::Folder(folder.clone());
    assert!(matches!(locate(&source), Err(HubError::NotThere { .. })));
    put(&folder, &["tokenizer.json"]);
    let said = locate(&source).unwrap_err().to_string();
    assert!(said.contains("lacks config.json, model.safetensors"), "{said}");
    put(&folder, WHOLE);
    assert_eq!(locate(&source).unwrap(), Located::Folder(folder.clone()));
    assert!(matches!(
        locate(&Source::Folder(folder.join("config.json"))),
        Err(HubError::WrongKind { .. })
    ));
}

#[test]
fn every_shard_of_an_index_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &["config.json", "tokenizer.json", "m-1.safetensors"]);
    let index = dir.path().join("model.safetensors.index.json");
    let map = r#"{"weight_map": {"x": "m-2.safetensors", "y": "m-1.safetensors", "z": "m-2.safetensors"}}"#;
    fs::write(&index, map).unwrap();
    let source = Source::Folder(dir.path().to_path_buf());
    let said = locate(&source).unwrap_err().to_string();
    assert!(said.contains("lacks m-2.safetensors:"), "{said}");
    put(dir.path(), &["m-2.safetensors", "unused.safetensors"]);
    locate(&source).unwrap();
    let names = ["m-1.safetensors", "m-2.safetensors"].map(|n| dir.path().join(n));
    assert_eq!(weight_files(dir.path()).unwrap(), names);
    for bad in [
        "{",
        "{}",
        r#"{"weight_map": {"x": "../../etc/passwd"}}"#,
        "version https://git-lfs.github.com",
    ] {
        fs::write(&index, bad).unwrap();
        let said = locate(&source).unwrap_err().to_string();
        assert_eq!(
            said.contains("git lfs pull"),
            bad.starts_with("version"),
            "{said}"
        );
    }
}

#[test]
fn gguf_files_are_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let source = Source::Gguf(path.clone());
    assert!(matches!(locate(&source), Err(HubError::NotThere { .. })));
    fs::write(&path, b"GGU").unwrap();
    assert!(matches!(locate(&source), Err(HubError::WrongKind { .. })));
    fs::write(&path, b"GGUF\x03\0\0\0").unwrap();
    assert_eq!(locate(&source).unwrap(), Located::Gguf(path));
}

#[test]
fn the_cache_is_read_by_branch_and_commit() {
    let (dir, snapshot) = cache(WHOLE);
    for text in [
        "hf:a/b",
        "hf:a/b@main",
        &format!("hf:a/b@{COMMIT}"),
        "hf:a/b@refs/pr/3",
    ] {
        assert_eq!(
            hub(text, dir.path()).unwrap(),
            Located::Folder(snapshot.clone()),
            "{text}"
        );
    }
    let other = format!("hf:a/b@{}", COMMIT.replace('0', "f"));
    for text in ["hf:a/c", "hf:a/b@v2", other.as_str(), "hf:a/b:q.gguf"] {
        let said = hub(text, dir.path()).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("{text} is not in the Hugging Face cache at ")),
            "{said}"
        );
        assert!(said.contains("`messplus pull hf:a/"), "{said}");
    }
    let said = hub("hf:a/b@v2:q.gguf", dir.path()).unwrap_err().to_string();
    assert!(said.ends_with("`messplus pull hf:a/b@v2:q.gguf`"), "{said}");
}

#[test]
fn a_broken_off_download_is_named() {
    let (dir, snapshot) = cache(&["config.json"]);
    #[cfg(unix)]
    std::os::unix::fs::symlink("../../blobs/gone", snapshot.join("tokenizer.json")).unwrap();
    let said = hub("hf:a/b", dir.path()).unwrap_err().to_string();
    assert!(said.contains("lacks tokenizer.json, model.safetensors"), "{said}");
    assert!(
        said.ends_with("finish the download with `messplus pull hf:a/b`"),
        "{said}"
    );
    put(&snapshot, &["q4/m.gguf"]);
    assert_eq!(
        hub("hf:a/b:q4/m.gguf", dir.path()).unwrap(),
        Located::Gguf(snapshot.join("q4/m.gguf"))
    );
}

#[test]
fn the_cache_is_where_hugging_face_puts_it() {
    let set = |pairs: &'static [(&'static str, &'static str)]| {
        let found = move |name: &str| {
            pairs
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| PathBuf::from(v))
        };
        cache::root(found)
    };
    let all = &[
        ("HOME", "/h"),
        ("XDG_CACHE_HOME", "/x"),
        ("HF_HOME", "/f"),
        ("HF_HUB_CACHE", "/c"),
    ];
    assert_eq!(set(all), Some("/c".into()));
    assert_eq!(set(&all[..3]), Some("/f/hub".into()));
    assert_eq!(set(&all[..2]), Some("/x/huggingface/hub".into()));
    assert_eq!(set(&all[..1]), Some("/h/.cache/huggingface/hub".into()));
    assert_eq!(set(&[]), None);
}
