//! The rules single values must keep, wherever they come from: the file or the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use super::error::plain_io;
use super::source::choose;
use super::{BASELINES, IdlePolicy, MeterKind, Policy, Refusal};

/// An address to listen on: `HOST:PORT` with a number or `localhost` as host, since a name that is looked up may
/// mean another machine tomorrow.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Refusal> {
    let parsed = match text.strip_prefix("localhost:") {
        Some(port) => port
            .parse()
            .ok()
            .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| {
        Refusal::new(
            format!("is {text:?}, which is no address to listen on"),
            "write ADDRESS:PORT, say \"127.0.0.1:8080\" or \"[::1]:8080\"",
        )
    })
}

/// Who listens to the network must ask for keys.
pub(super) fn exposure(listen: SocketAddr, has_keys: bool) -> Result<(), Refusal> {
    if has_keys || listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Refusal::new(
        format!("is {listen}, which other machines can reach, and there is no server.api_keys_file"),
        "name a file with one key a line as api_keys_file, or listen on 127.0.0.1",
    ))
}

/// The keys of a file, one a line.
pub(super) fn keys(path: &Path) -> Result<Vec<String>, Refusal> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Refusal::new(
            format!("is {}, which cannot be read ({})", path.display(), plain_io(&e)),
            "make the file, with one key a line",
        )
    })?;
    let keys: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(Into::into)
        .collect();
    if keys.is_empty() {
        return Err(Refusal::new(
            format!("is {}, which holds no key", path.display()),
            "write one key a line into it",
        ));
    }
    Ok(keys)
}

/// A share somebody can promise: 0 asks for nothing and 1 for what no model keeps.
pub(super) fn alpha(value: f64) -> Result<f64, Refusal> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    Err(Refusal::new(
        format!("is {value}"),
        "promise a share above 0 and below 1, say 0.8",
    ))
}

/// A share or a weight.
pub(super) fn share(value: f64) -> Result<f64, Refusal> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(Refusal::new(format!("is {value}"), "write a number from 0 to 1"))
}

/// Watts a machine can draw.
pub(super) fn watts(value: f64) -> Result<f64, Refusal> {
    if (0.0..=100_000.0).contains(&value) {
        return Ok(value);
    }
    Err(Refusal::new(
        format!("is {value}"),
        "write watts from 0 to 100000",
    ))
}

pub(super) fn meter(text: &str) -> Result<MeterKind, Refusal> {
    choose(
        text,
        &[
            ("auto", MeterKind::Auto),
            ("nvml", MeterKind::Nvml),
            ("rapl", MeterKind::Rapl),
            ("modelled", MeterKind::Modelled),
        ],
    )
}

/// The kinds of features, before it is known which encoder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FeatureWord {
    Ngrams,
    Hidden,
    ModernBert,
}

pub(super) fn features(text: &str) -> Result<FeatureWord, Refusal> {
    choose(
        text,
        &[
            ("ngrams", FeatureWord::Ngrams),
            ("hidden", FeatureWord::Hidden),
            ("modernbert", FeatureWord::ModernBert),
        ],
    )
}

pub(super) fn idle(text: &str) -> Result<IdlePolicy, Refusal> {
    choose(
        text,
        &[("separate", IdlePolicy::Separate), ("shared", IdlePolicy::Shared)],
    )
}

/// A policy; `fixed:NAME` must name one of `models`.
pub(super) fn policy(text: &str, models: &[&str]) -> Result<Policy, Refusal> {
    if let Some(name) = BASELINES.iter().find(|name| **name == text) {
        return Ok(Policy::Baseline(name));
    }
    match text {
        "mess-plus" => Ok(Policy::MessPlus),
        "paper" => Ok(Policy::Paper),
        "random" => Ok(Policy::Random),
        _ => match text.strip_prefix("fixed:") {
            Some(name) if models.contains(&name) => Ok(Policy::Fixed(name.into())),
            Some(name) => Err(Refusal::new(
                format!("is 'fixed:{name}', and the zoo has no model '{name}'"),
                format!("name one of {}", models.join(", ")),
            )),
            None => Err(Refusal::new(
                format!("is {text:?}"),
                format!(
                    "it may be mess-plus, paper, fixed:NAME, random, {}",
                    BASELINES.join(", ")
                ),
            )),
        },
    }
}
