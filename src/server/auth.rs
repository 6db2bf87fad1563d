//! Who may come in, by bearer keys compared in constant time, and how many requests each may have under way.

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use sha2::{Digest, Sha256};

use super::app::AppState;
use super::dashboard;
use super::docs;
use super::fault::Fault;
use super::seats::{Seat, Seats};

/// What answers load balancers, who have no key.
const OPEN_PATH: &str = "/health";
/// What makes models work, and is bounded by key.
const SEATED_PATHS: [&str; 4] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AuthError {
    #[error("no API key was given: send 'authorization: Bearer KEY'")]
    Missing,
    #[error("the API key is not known here: check it")]
    Wrong,
    #[error("this API key has as many requests under way as it may: wait for one to end")]
    Busy { retry_after: Duration },
}

/// Who asks, as far as keys tell: a digest of the key, `None` where nobody needs one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner(pub Option<String>);

impl Owner {
    fn of(key: &str) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        Self(Some(
            digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect(),
        ))
    }
}

/// Who came in, and the seats of their key if it has a bound.
type Admitted = (Owner, Option<Seats>);

/// The keys that open the door. With none, every key does and none is needed. Copies share them.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<Vec<Key>>>);

struct Key {
    text: String,
    owner: Owner,
    /// Requests of its holder that may be under way; `None` sets no bound.
    seats: Option<Seats>,
}

impl Keys {
    /// `most_in_flight`: requests of one key that may be under way.
    pub fn new(keys: Vec<String>, most_in_flight: Option<usize>) -> Self {
        let new = Self::default();
        new.replace(keys, most_in_flight);
        new
    }

    /// Other keys from now on. A key that stays keeps the count of its requests under way.
    pub fn replace(&self, keys: Vec<String>, most_in_flight: Option<usize>) {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::take(&mut *ring);
        *ring = keys
            .into_iter()
            .map(|text| match old.iter().find(|key| key.text == text) {
                Some(key) => Key {
                    owner: key.owner.clone(),
                    text,
                    seats: key.seats.clone(),
                },
                None => Key {
                    owner: Owner::of(&text),
                    text,
                    seats: most_in_flight.map(Seats::new),
                },
            })
            .collect();
    }

    /// Lets the holder of a known key in.
    fn admit(&self, headers: &HeaderMap) -> Result<Admitted, AuthError> {
        let ring = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if ring.is_empty() {
            return Ok(Admitted::default());
        }
        let given = presented(headers).ok_or(AuthError::Missing)?;
        // Every key is looked at, so that the time taken does not tell which one came near.
        let known = ring.iter().fold(None, |known, key| {
            if same(key.text.as_bytes(), given) {
                Some(key)
            } else {
                known
            }
        });
        known
            .map(|key| (key.owner.clone(), key.seats.clone()))
            .ok_or(AuthError::Wrong)
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

/// Guards every route but [`OPEN_PATH`] and the pages' files.
pub(super) async fn guard(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == OPEN_PATH || dashboard::OPEN_PATHS.contains(&path) || docs::OPEN_PATHS.contains(&path) {
        return next.run(request).await;
    }
    let seats = match state.keys().admit(request.headers()) {
        Ok((owner, seats)) => {
            let seats = seats.filter(|_| SEATED_PATHS.contains(&path));
            request.extensions_mut().insert(owner);
            seats
        }
        Err(error) => return Fault::from(error).into_response(),
    };
    let Some(seats) = seats else {
        return next.run(request).await;
    };
    match seats.take() {
        Ok(seat) => {
            let response = next.run(request).await;
            response.map(|body| Body::new(Seated { body, _seat: seat }))
        }
        Err(error) => Fault::from(error).into_response(),
    }
}

/// A response's body with the seat of the request: it is free again when the body has been sent or given up.
struct Seated {
    body: Body,
    _seat: Seat,
}

impl HttpBody for Seated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
        assert!(Keys::default().admit(&HeaderMap::new()).is_ok());
        assert!(
            Keys::default()
                .admit(&headers("authorization", "Bearer DUMMY_KEY"))
                .is_ok()
        );
    }

    #[test]
    fn with_keys_only_their_holders_do() {
        let keys = Keys::new(vec!["alpha-key".into(), "beta-key".into()], None);
        assert_eq!(keys.admit(&HeaderMap::new()).err(), Some(AuthError::Missing));
        for (name, value) in [
            ("authorization", "Bearer beta-key"),
            ("authorization", "bearer alpha-key"),
        ] {
            assert!(keys.admit(&headers(name, value)).is_ok());
        }
        assert!(keys.admit(&headers("x-api-key", "alpha-key")).is_ok());
        for wrong in [
            "Bearer alpha-ke",
            "Bearer alpha-keyy",
            "Bearer ",
            "Bearer alpha-keyalpha-key",
        ] {
            assert_eq!(
                keys.admit(&headers("authorization", wrong)).err(),
                Some(AuthError::Wrong),
                "{wrong}"
            );
        }
        assert_eq!(
            keys.admit(&headers("authorization", "Basic alpha-key")).err(),
            Some(AuthError::Missing)
        );
    }

    #[test]
    fn a_key_that_stays_keeps_its_seats() {
        let keys = Keys::new(vec!["a".into(), "b".into()], Some(1));
        let seats = |key: &str| {
            let admitted = keys.admit(&headers("authorization", &format!("Bearer {key}")));
            admitted.map(|(_, seats)| seats)
        };
        let taken = seats("a").unwrap().unwrap().take().unwrap();
        keys.replace(vec!["a".into(), "c".into()], Some(1));
        assert!(seats("a").unwrap().unwrap().take().is_err());
        assert!(seats("c").unwrap().unwrap().take().is_ok());
        assert_eq!(seats("b").err(), Some(AuthError::Wrong));
        drop(taken);
        assert!(seats("a").unwrap().unwrap().take().is_ok());
    }
}
