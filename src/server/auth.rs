//! Who may come in: bearer keys, compared in constant time.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::app::AppState;
use super::dashboard::OPEN_PATHS;
use super::fault::Fault;

/// What answers load balancers, who have no key.
const OPEN_PATH: &str = "/health";

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AuthError {
    #[error("no API key was given: send 'authorization: Bearer KEY'")]
    Missing,
    #[error("the API key is not known here: check it")]
    Wrong,
}

/// The keys that open the door. With none, every key does and none is needed.
#[derive(Clone, Default)]
pub struct Keys(Vec<String>);

impl Keys {
    pub fn new(keys: Vec<String>) -> Self {
        Self(keys)
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), AuthError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let given = presented(headers).ok_or(AuthError::Missing)?;
        // Every key is looked at, so that the time taken does not tell which one came near.
        let known = self
            .0
            .iter()
            .fold(false, |known, key| same(key.as_bytes(), given) | known);
        if known { Ok(()) } else { Err(AuthError::Wrong) }
    }
}

/// The key a client presents: as a bearer token, or as `x-api-key`.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    bearer.or_else(|| {
        headers
            .get("x-api-key")
            .map(|value| value.as_bytes().trim_ascii())
    })
}

/// Equality in a time that depends on the given length alone.
fn same(key: &[u8], given: &[u8]) -> bool {
    let mut difference = key.len() ^ given.len();
    for (at, byte) in given.iter().enumerate() {
        let own = key.get(at % key.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(std::hint::black_box(own ^ byte));
    }
    difference == 0
}

/// Guards every route but [`OPEN_PATH`] and the dashboard's files.
pub(super) async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path != OPEN_PATH
        && !OPEN_PATHS.contains(&path)
        && let Err(error) = state.keys().admit(request.headers())
    {
        return Fault::from(error).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn without_keys_anyone_comes_in() {
        assert_eq!(Keys::default().admit(&HeaderMap::new()), Ok(()));
        assert_eq!(
            Keys::default().admit(&headers("authorization", "Bearer DUMMY_KEY")),
            Ok(())
        );
    }

    #[test]
    fn with_keys_only_their_holders_do() {
        let keys = Keys::new(vec!["alpha-key".into(), "beta-key".into()]);
        assert_eq!(keys.admit(&HeaderMap::new()), Err(AuthError::Missing));
        for (name, value) in [
            ("authorization", "Bearer beta-key"),
            ("authorization", "bearer alpha-key"),
        ] {
            assert_eq!(keys.admit(&headers(name, value)), Ok(()));
        }
        assert_eq!(keys.admit(&headers("x-api-key", "alpha-key")), Ok(()));
        for wrong in [
            "Bearer alpha-ke",
            "Bearer alpha-keyy",
            "Bearer ",
            "Bearer alpha-keyalpha-key",
        ] {
            assert_eq!(
                keys.admit(&headers("authorization", wrong)),
                Err(AuthError::Wrong),
                "{wrong}"
            );
        }
        assert_eq!(
            keys.admit(&headers("authorization", "Basic alpha-key")),
            Err(AuthError::Missing)
        );
    }
}
