//! Every way a zoo file can be wrong, the line its refusal names and the words it holds.

use std::path::Path;

use super::Zoo;

const ONE: &str = "[[model]]\nname = \"a\"\nsource = \"demo:small\"\n";

/// Each file, the line its refusal must name, and words it must hold.
const REFUSED: &[(&str, usize, &[&str])] = &[
    ("", 1, &["`model`", "nothing to serve", "[[model]]"]),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = 0.8\nlabels = { judge = 2 }",
        7,
        &["`labels.judge`", "is 2", "from 0 to 1"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = 0.8\nlabels = { juge = 1 }",
        7,
        &["`labels.juge`", "did you mean `labels.judge`?"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = 0.8\njudge = \"a\"",
        7,
        &["`sla.judge`", "nobody trusts"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = 0.8\nlabels = { judge = 1 }\njudge = \"b\"",
        8,
        &["`sla.judge`", "no such model", "name one of a"],
    ),
    ("model = []", 1, &["`model`", "nothing to serve"]),
    ("model = 3", 1, &["`model`", "an integer", "[[model]]"]),
    ("[model]\nname = \"a\"", 1, &["`model`", "a table", "[[model]]"]),
    (
        "\n\n[[modle]]\nname = \"a\"",
        3,
        &["`modle`", "did you mean `model`?"],
    ),
    ("{ONE}[server]\nlisten = \n", 5, &["not TOML"]),
    ("{ONE}name = \"b\"", 4, &["not TOML", "duplicate key"]),
    ("{ONE}[server]\n[server]", 5, &["not TOML", "duplicate key"]),
    (
        "[server]\nlistne = \"127.0.0.1:1\"\n{ONE}",
        2,
        &["`server.listne`", "did you mean `server.listen`?"],
    ),
    (
        "[server]\nport = 1\n{ONE}",
        2,
        &["`server.port`", "listen, api_keys_file, max_per_key"],
    ),
    (
        "[server]\nmax_per_key = 4\n{ONE}",
        2,
        &["`server.max_per_key`", "no keys"],
    ),
    (
        "[server]\ntls_cert = \"c.pem\"\n{ONE}",
        2,
        &["`server.tls_cert`", "tls_key"],
    ),
    (
        "[server]\nlisten = \"8080\"\n{ONE}",
        2,
        &["`server.listen`", "127.0.0.1:8080"],
    ),
    (
        "[server]\nlisten = 8080\n{ONE}",
        2,
        &["`server.listen`", "an integer", "quotes"],
    ),
    (
        "[server]\nlisten = \"example.com:80\"\n{ONE}",
        2,
        &["`server.listen`"],
    ),
    (
        "[server]\nlisten = \"127.0.0.1:70000\"\n{ONE}",
        2,
        &["`server.listen`"],
    ),
    (
        "[server]\nlisten = \"0.0.0.0:80\"\n{ONE}",
        2,
        &["`server.listen`", "api_keys_file"],
    ),
    (
        "[server]\nlisten = \"[::]:80\"\n{ONE}",
        2,
        &["`server.listen`", "api_keys_file"],
    ),
    (
        "[server]\n\napi_keys_file = \"none.txt\"\n{ONE}",
        3,
        &["`server.api_keys_file`", "/zoo/none.txt"],
    ),
    (
        "[server]\nmax_queue = 0\n{ONE}",
        2,
        &["`server.max_queue`", "is 0", "from 1"],
    ),
    (
        "[server]\nmax_queue = -4\n{ONE}",
        2,
        &["`server.max_queue`", "is -4"],
    ),
    (
        "[server]\nmax_queue = 1.5\n{ONE}",
        2,
        &["`server.max_queue`", "a float"],
    ),
    (
        "[server]\nprefix_cache = \"yes\"\n{ONE}",
        2,
        &["`server.prefix_cache`", "a string", "true or false"],
    ),
    ("server = 1\n{ONE}", 1, &["`server`", "[server]"]),
    (
        "[energy]\nmeter = \"nvlm\"\n{ONE}",
        2,
        &["`energy.meter`", "did you mean \"nvml\"?"],
    ),
    (
        "[energy]\nidle = \"free\"\n{ONE}",
        2,
        &["`energy.idle`", "separate, shared"],
    ),
    (
        "[energy]\nnvml_library = \"\"\n{ONE}",
        2,
        &["`energy.nvml_library`", "empty"],
    ),
    ("[energy]\nrecord = \"\"\n{ONE}", 2, &["`energy.record`", "empty"]),
    (
        "[energy]\nmodelled_idle_watts = -1\n{ONE}",
        2,
        &["`energy.modelled_idle_watts`", "-1"],
    ),
    (
        "[energy]\nmodelled_idle_watts = nan\n{ONE}",
        2,
        &["`energy.modelled_idle_watts`", "NaN"],
    ),
    (
        "[energy]\nmodelled_idle_watts = 90\n{ONE}",
        2,
        &["`energy.modelled_idle_watts`", "at least"],
    ),
    (
        "[energy]\nmodelled_active_watts = 9\n{ONE}",
        2,
        &["`energy.modelled_active_watts`", "at least"],
    ),
    (
        "[[model]]\nname = \"a\"",
        1,
        &["`model.source`", "missing", "hf:ORG/NAME"],
    ),
    (
        "{ONE}[[model]]\nsource = \"demo:small\"",
        4,
        &["`model.name`", "missing"],
    ),
    (
        "[[model]]\nname = \"a\"\nsorce = \"demo:small\"",
        3,
        &["`model.sorce`", "did you mean `model.source`?"],
    ),
    ("{ONE}sla = 0.8", 4, &["`model.sla`", "not a key"]),
    (
        "{ONE}[[model]]\nname = \"a\"\nsource = \"demo:large\"",
        5,
        &["`model.name`", "'a'", "line 1"],
    ),
    (
        "[[model]]\nname = \"auto\"\nsource = \"demo:small\"",
        2,
        &["`model.name`", "router chooses"],
    ),
    (
        "[[model]]\nname = \"auto:x\"\nsource = \"demo:small\"",
        2,
        &["`model.name`", "router chooses"],
    ),
    (
        "[[model]]\nname = \"\"\nsource = \"demo:small\"",
        2,
        &["`model.name`", "empty"],
    ),
    (
        "[[model]]\nname = \"a b\"\nsource = \"demo:small\"",
        2,
        &["`model.name`", "' '"],
    ),
    (
        "[[model]]\nname = [\"a\"]\nsource = \"demo:small\"",
        2,
        &["`model.name`", "an array"],
    ),
    (
        "[[model]]\nname = \"a\"\nsource = \"demo:tiny\"",
        3,
        &["`model.source`", "demo:small"],
    ),
    (
        "[[model]]\nname = \"a\"\nsource = \"Qwen/Qwen3-8B\"",
        3,
        &["`model.source`", "hf:ORG/NAME"],
    ),
    (
        "[[model]]\nname = \"a\"\nsource = \"hf:Qwen3-8B\"",
        3,
        &["`model.source`", "not ORG/NAME"],
    ),
    ("{ONE}device = \"gpu\"", 4, &["`model.device`", "cuda:0"]),
    ("{ONE}device = \"cuda:x\"", 4, &["`model.device`", "cuda:N"]),
    ("{ONE}device = \"cuda:+1\"", 4, &["`model.device`", "cuda:N"]),
    (
        "{ONE}dtype = \"fp16\"",
        4,
        &["`model.dtype`", "did you mean \"f16\"?"],
    ),
    (
        "{ONE}dtype = \"int4\"",
        4,
        &["`model.dtype`", "auto, f32, f16, bf16"],
    ),
    ("{ONE}max_context = 0", 4, &["`model.max_context`", "is 0"]),
    (
        "{ONE}max_context = \"4k\"",
        4,
        &["`model.max_context`", "a string"],
    ),
    ("{ONE}kv_cache = \"lots\"", 4, &["`model.kv_cache`", "512MiB"]),
    ("{ONE}kv_cache = 0", 4, &["`model.kv_cache`", "is 0"]),
    ("{ONE}[[sla]]\nname = \"default\"", 4, &["`sla.alpha`", "missing"]),
    (
        "{ONE}[[sla]]\nalpha = 0.5",
        4,
        &["`sla.name`", "missing", "default"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = 1.0",
        6,
        &["`sla.alpha`", "is 1", "below 1"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = 0",
        6,
        &["`sla.alpha`", "is 0", "above 0"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = -0.1",
        6,
        &["`sla.alpha`", "is -0.1"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = 85",
        6,
        &["`sla.alpha`", "is 85"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = nan",
        6,
        &["`sla.alpha`", "is NaN"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = inf",
        6,
        &["`sla.alpha`", "is inf"],
    ),
    (
        "{ONE}[[sla]]\nname = \"default\"\nalpha = \"0.8\"",
        6,
        &["`sla.alpha`", "a string"],
    ),
    (
        "{ONE}[[sla]]\nname=\"default\"\nalpha=0.5\n[[sla]]\nname=\"default\"\nalpha=0.6",
        8,
        &["`sla.name`", "another"],
    ),
    (
        "{ONE}[[sla]]\nname=\"gold\"\nalpha=0.5\n[[sla]]\nname=\"x\"\nalpha=0.6",
        4,
        &["`sla.name`", "model: \"auto\""],
    ),
    (
        "{ONE}[router]\npolicy = \"fixed:b\"",
        5,
        &["`router.policy`", "no model 'b'", "name one of a"],
    ),
    (
        "{ONE}[router]\npolicy = \"messplus\"",
        5,
        &["`router.policy`", "mess-plus"],
    ),
    (
        "{ONE}[router]\npolicy = \"bandits\"",
        5,
        &["`router.policy`", "bandit", "thompson"],
    ),
    (
        "{ONE}[router]\nfeatures = \"hiden\"",
        5,
        &[
            "`router.features`",
            "did you mean \"hidden\"?",
            "ngrams, hidden, modernbert",
        ],
    ),
    (
        "{ONE}[router]\nfeatures = \"modernbert\"",
        4,
        &["`router.encoder` is missing", "hf:answerdotai/ModernBERT-base"],
    ),
    (
        "{ONE}[router]\nfeatures = \"modernbert\"\nencoder = \"demo:small\"",
        6,
        &["`router.encoder`", "'demo:small'", "no encoder"],
    ),
    (
        "{ONE}[router]\nencoder = \"path:m\"\nfeatures = \"hidden\"",
        5,
        &["`router.encoder`", "nothing uses it"],
    ),
    (
        "{ONE}[router]\nfeatures = \"modernbert\"\nencoder = \"hf:a/b:c.gguf\"",
        6,
        &["`router.encoder`", "no encoder"],
    ),
    ("{ONE}[router]\nseed = 1", 5, &["`router.seed`", "policy"]),
];

#[test]
fn each_fault_is_named_with_its_line_and_mend() {
    for (text, line, words) in REFUSED {
        let text = text.replace("{ONE}", ONE);
        let error = Zoo::parse("zoo.toml", &text, Path::new("/zoo")).expect_err(&text);
        let said = error.to_string();
        assert_eq!(error.line(), Some(*line), "{text}\n{said}");
        assert!(said.starts_with(&format!("zoo.toml:{line}: ")), "{said}");
        assert!(!said.contains('\n'), "{said}");
        for word in *words {
            assert!(said.contains(word), "{text}\n{said}\nlacks {word}");
        }
    }
}
