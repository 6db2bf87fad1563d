//! The variables that the Hugging Face libraries read: where the hub is, where its cache, who asks.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{HubError, cache};

const ENDPOINT: &str = "https://huggingface.co";

/// What the environment says of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubEnvironment {
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_TOKEN`, or what `hf auth login` left in `HF_TOKEN_PATH` or in `token` of `HF_HOME`.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`: nothing may be fetched.
    pub offline: bool,
}

impl HubEnvironment {
    /// Of this process.
    pub fn of_process() -> Result<Self, HubError> {
        Self::of(&|name| std::env::var_os(name))
    }

    pub(super) fn of(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |name: &str| {
            let value = variable(name)?.into_string().ok()?;
            Some(value.trim().to_owned()).filter(|v| !v.is_empty())
        };
        let cache = cache::root(path).ok_or(HubError::NoCache)?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let said = text("HF_HUB_OFFLINE").or_else(|| text("TRANSFORMERS_OFFLINE"));
        let token_file = path("HF_TOKEN_PATH").or_else(|| {
            let home = path("HF_HOME").or_else(|| Some(cache.parent()?.to_owned()));
            Some(home?.join("token"))
        });
        let kept = || std::fs::read_to_string(token_file?).ok();
        let token = text("HF_TOKEN")
            .or_else(kept)
            .map(|token| token.trim().to_owned());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.filter(|token| !token.is_empty()),
            offline: said.is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.to_lowercase().as_str())),
            cache,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<HubEnvironment, HubError> {
        HubEnvironment::of(&|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn variables_are_read_as_the_python_libraries_read_them() {
        let plain = of(&[("HOME", "/none")]).unwrap();
        assert_eq!(plain.cache, PathBuf::from("/none/.cache/huggingface/hub"));
        assert_eq!((plain.endpoint.as_str(), plain.offline), (ENDPOINT, false));
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_kept\n").unwrap();
        let path = home.path().display().to_string();
        let kept = of(&[
            ("HF_HOME", &path),
            ("HF_ENDPOINT", "http://hub/"),
            ("HF_HUB_OFFLINE", "1"),
        ])
        .unwrap();
        assert_eq!(kept.cache, home.path().join("hub"));
        assert_eq!((kept.token.as_deref(), kept.offline), (Some("hf_kept"), true));
        assert_eq!(kept.endpoint, "http://hub");
        let told = of(&[
            ("HF_HOME", &path),
            ("HF_TOKEN", " hf_told "),
            ("HF_HUB_CACHE", "/c"),
        ])
        .unwrap();
        assert_eq!(
            (told.token.as_deref(), told.cache),
            (Some("hf_told"), PathBuf::from("/c"))
        );
        assert!(matches!(of(&[]), Err(HubError::NoCache)));
    }
}
