//! The demo zoo, inside the binary. `models/demo/README.md` tells how it was made.

/// The held-out questions of the demo zoo: one JSON object a line with `task`, `question` and `reference`.
pub const DEMO_QUESTIONS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/models/demo/questions.jsonl"
));

type Files = [(&'static str, &'static [u8])];

macro_rules! file {
    ($model:literal, $name:literal) => {
        (
            $name,
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/models/demo/",
                $model,
                "/",
                $name
            )),
        )
    };
}

macro_rules! model {
    ($model:literal) => {
        &[
            file!($model, "config.json"),
            file!($model, "model.safetensors"),
            file!($model, "tokenizer.json"),
            file!($model, "tokenizer_config.json"),
            file!($model, "generation_config.json"),
        ]
    };
}

static SMALL: &Files = model!("small");
static MEDIUM: &Files = model!("medium");
static LARGE: &Files = model!("large");

/// The files of a demo model.
pub(super) fn files(name: &str) -> Option<&'static Files> {
    match name {
        "small" => Some(SMALL),
        "medium" => Some(MEDIUM),
        "large" => Some(LARGE),
        _ => None,
    }
}
