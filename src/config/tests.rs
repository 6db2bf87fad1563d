//! The zoo file as a whole: what is read, and each refusal with its line.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const ONE: &str = "[[model]]\nname = \"a\"\nsource = \"demo:small\"\n";

fn parse(text: &str) -> Result<Zoo, ConfigError> {
    Zoo::parse("zoo.toml", text, Path::new("/zoo"))
}

#[test]
fn the_demo_zoo_holds() {
    let zoo = Zoo::load(None).unwrap();
    let names: Vec<_> = zoo.models.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["demo-small", "demo-medium", "demo-large"]);
    assert_eq!(zoo.models[2].source, Source::Demo("large".into()));
    assert_eq!(
        zoo.slas,
        [Sla {
            name: "default".into(),
            alpha: 0.85,
            labels: Labels::default(),
        }]
    );
    // The example says what is taken when a key is left out: it must be true.
    assert_eq!((zoo.server, zoo.energy, zoo.router), Default::default());
}

#[test]
fn little_is_needed() {
    let zoo = parse(ONE).unwrap();
    assert_eq!(
        zoo.slas,
        [Sla {
            name: DEFAULT_SLA.into(),
            alpha: DEFAULT_ALPHA,
            labels: Labels::default(),
        }]
    );
    assert_eq!(zoo.server, Server::default());
    assert_eq!(zoo.models[0].line, 1);
    assert_eq!(zoo.model_id("a"), Some(ModelId(0)));
    assert_eq!(zoo.model_id("b"), None);
}

#[test]
fn trust_that_is_not_mentioned_stays_as_it_is() {
    let text = format!(
        "{ONE}[[sla]]\nname = \"default\"\nalpha = 0.8\nlabels = {{ judge = 0.5, user = 0 }}\njudge = \"a\"\njudge_share = 0.2"
    );
    let labels = &parse(&text).unwrap().slas[0].labels;
    assert_eq!(
        *labels,
        Labels {
            user: 0.0,
            judge: 0.5,
            judge_model: Some("a".into()),
            judge_share: 0.2,
            ..Labels::default()
        }
    );
}

#[test]
fn everything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.txt"), "# staff\nalpha-key\n\n  beta-key \n").unwrap();
    let text = r#"
[server]
listen = "0.0.0.0:9000"
api_keys_file = "keys.txt"
max_per_key = 4
tls_cert = "cert.pem"
tls_key = "/etc/key.pem"
max_queue = 1_000
prefix_cache = false
[energy]
meter = "nvml"
idle = "shared"
nvml_library = "lib/standin.so"
modelled_idle_watts = 5
modelled_active_watts = 0x10
record = "energy.jsonl"
[[model]]
name = "qwen2.5-0.5b"
source = "hf:Qwen/Qwen2.5-0.5B-Instruct@main:q4/model.gguf"
device = "cuda:1"
dtype = "bf16"
max_context = 4096
kv_cache = "512MiB"
[[model]]
name = "b"
source = "path:models/b"
kv_cache = 1024
[[model]]
name = "c"
source = "path:/abs/c.GGUF"
[[sla]]
name = "gold"
alpha = 0.95
[[sla]]
name = "default"
alpha = 0.5
[router]
policy = "fixed:b"
"#;
    std::fs::write(dir.path().join("zoo.toml"), text).unwrap();
    let zoo = Zoo::load(Some(&dir.path().join("zoo.toml"))).unwrap();
    assert_eq!(zoo.api_keys().unwrap(), ["alpha-key", "beta-key"]);
    assert_eq!((zoo.server.max_queue, zoo.server.max_per_key), (1000, Some(4)));
    let tls = zoo.server.tls.as_ref().unwrap();
    assert_eq!(
        (&tls.certificate, tls.key.to_str()),
        (&dir.path().join("cert.pem"), Some("/etc/key.pem"))
    );
    assert!(!zoo.server.prefix_cache);
    assert_eq!(zoo.energy.meter, MeterKind::Nvml);
    assert_eq!(zoo.energy.idle, IdlePolicy::Shared);
    assert_eq!(
        zoo.energy.nvml_library,
        dir.path().join("lib/standin.so").display().to_string()
    );
    assert_eq!(zoo.energy.modelled_active_watts, Watts(16.0));
    assert_eq!(zoo.energy.record, Some(dir.path().join("energy.jsonl")));
    let [a, b, c] = &zoo.models[..] else {
        panic!("three models")
    };
    assert_eq!(
        a.source.to_string(),
        "hf:Qwen/Qwen2.5-0.5B-Instruct@main:q4/model.gguf"
    );
    assert_eq!(
        (a.device, a.dtype, a.max_context, a.kv_cache),
        (Device::Cuda(1), Dtype::Bf16, Some(4096), Some(512 << 20))
    );
    assert_eq!(b.source, Source::Folder(dir.path().join("models/b")));
    assert_eq!(b.kv_cache, Some(1024));
    assert_eq!(c.source, Source::Gguf(PathBuf::from("/abs/c.GGUF")));
    assert_eq!(zoo.sla("gold").unwrap().alpha, 0.95);
    assert_eq!(zoo.router.policy, Policy::Fixed("b".into()));
}

#[test]
fn features_are_read() {
    let router = |text: &str| parse(&format!("{ONE}[router]\n{text}")).unwrap().router;
    assert_eq!(router("").features, Features::Ngrams);
    assert_eq!(router("features = \"ngrams\"").features, Features::Ngrams);
    let hidden = router("policy = \"paper\"\nfeatures = \"hidden\"");
    assert_eq!((hidden.features, hidden.features_line), (Features::Hidden, 6));
    let encoder = router("features = \"modernbert\"\nencoder = \"hf:answerdotai/ModernBERT-base\"");
    assert_eq!(
        encoder.features.to_string(),
        "modernbert hf:answerdotai/ModernBERT-base"
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let gone = Zoo::load(Some(&dir.path().join("gone.toml")))
        .unwrap_err()
        .to_string();
    assert!(
        gone.contains("gone.toml cannot be read (no such file or directory)"),
        "{gone}"
    );
    let latin = dir.path().join("latin.toml");
    std::fs::write(&latin, b"# fine\n# caf\xe9\n").unwrap();
    let error = Zoo::load(Some(&latin)).unwrap_err();
    assert_eq!(error.line(), Some(2));
    std::fs::write(dir.path().join("keys"), "# none yet\n").unwrap();
    let text = format!("[server]\napi_keys_file = \"keys\"\n{ONE}");
    let empty = Zoo::parse("z", &text, dir.path()).unwrap_err().to_string();
    assert!(empty.contains("holds no key"), "{empty}");
}

#[test]
fn listening_elsewhere_keeps_the_rules() {
    let mut zoo = parse(ONE).unwrap();
    zoo.listen_on("localhost:0").unwrap();
    zoo.listen_on("[::1]:99").unwrap();
    assert_eq!(zoo.server.listen.port(), 99);
    let error = zoo.listen_on("0.0.0.0:99").unwrap_err().to_string();
    assert!(
        error.starts_with("`--listen` is 0.0.0.0:99") && error.contains("api_keys_file"),
        "{error}"
    );
    assert!(zoo.listen_on("::1:x").is_err());
    assert_eq!(zoo.server.listen.to_string(), "[::1]:99");
}

#[test]
fn sources_are_read_and_written_back() {
    for text in [
        "hf:Qwen/Qwen3-0.6B",
        "hf:Qwen/Qwen3-0.6B@v1.0",
        "hf:a/b@refs/pr/3",
        "hf:a/b:c.gguf",
        "hf:a/b@0f3a:sub/c-Q4_K_M.gguf",
        "path:models/x",
        "path:C:/x",
        "path:x.gguf",
        "demo:medium",
    ] {
        assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "hf:",
        "hf:a",
        "hf:a/",
        "hf:a/b/c",
        "hf:../b",
        "hf:a/..",
        "hf:a/b@",
        "hf:a/b@x/../y",
        "hf:a/b:",
        "hf:a/b:c.bin",
        "hf:a/b:../c.gguf",
        "hf:a/b:/c.gguf",
        "hf:a b/c",
        "path:",
        "demo:",
        "http://x/y",
        "HF:a/b",
    ] {
        assert!(text.parse::<Source>().is_err(), "{text}");
    }
}

#[test]
fn the_default_pool_holds_a_full_context() {
    let mut model = parse(ONE).unwrap().models.remove(0);
    assert_eq!(model.kv_budget(1_000, 100), 6_400_000);
    assert_eq!(model.kv_budget(1 << 20, 1_000), 1 << 30);
    assert_eq!(model.kv_budget(1 << 20, 4_096), 4 << 30);
    model.kv_cache = Some(7);
    assert_eq!(model.kv_budget(1 << 20, 4_096), 7);
}

proptest! {
    #[test]
    fn alpha_is_taken_exactly_inside_0_and_1(alpha in prop_oneof![any::<f64>(), -0.5..1.5f64]) {
        let text = format!("{ONE}[[sla]]\nname = \"default\"\nalpha = {}", toml::Value::Float(alpha));
        match parse(&text) {
            Ok(zoo) => prop_assert!(zoo.slas[0].alpha == alpha && alpha > 0.0 && alpha < 1.0),
            Err(e) => {
                prop_assert!(!(alpha > 0.0 && alpha < 1.0), "{e}");
                prop_assert_eq!(e.line(), Some(6));
            }
        }
    }

    #[test]
    fn no_text_is_a_panic(text in "(\\[{1,2}(model|sla|server|x)\\]{1,2}|name ?=|\"|alpha=|[0-9.e-]+|é|\n| |.){0,30}") {
        if let Err(error) = parse(&text) {
            let lines = text.split('\n').count();
            prop_assert!(error.line().is_some_and(|l| (1..=lines).contains(&l)), "{error}");
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_found_wherever_it_stands(
        before in 0usize..9,
        key in "[a-z]{4,9}",
        table in prop::sample::select(&["server", "energy", "router"]),
    ) {
        let known = ["listen", "api_keys_file", "max_queue", "meter", "idle", "policy", "features", "encoder"];
        prop_assume!(!known.contains(&key.as_str()));
        let text = format!("{ONE}{}[{table}]\n{key} = 1\n", "# a line\n".repeat(before));
        let error = parse(&text).unwrap_err();
        prop_assert_eq!(error.line(), Some(5 + before));
        prop_assert!(error.to_string().contains(&format!("`{table}.{key}`")), "{}", error);
    }

    #[test]
    fn hub_sources_survive_text(
        repo in "[a-zA-Z0-9]{1,8}/[a-zA-Z0-9][a-zA-Z0-9_-]{0,8}",
        revision in prop::option::of("[a-z0-9]{1,9}(/[a-z0-9]{1,4})?"),
        file in prop::option::of("([a-z]{1,4}/)?[a-zA-Z0-9@_-]{1,9}\\.gguf"),
    ) {
        let source = Source::Hub { repo, revision, file };
        prop_assert_eq!(source.to_string().parse::<Source>(), Ok(source));
    }
}
