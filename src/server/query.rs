//! The query strings of `/v1/requests` and of a response's items.

use crate::store::Filter;
use crate::units::RequestId;

use super::fault::Fault;
use super::wire::ItemPage;

/// Records that one answer may hold.
const MOST: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

/// Reads the query string. Unknown names are ignored, wrong values are not.
pub(super) fn log_query(query: &str) -> Result<(Filter, Format), Fault> {
    let mut filter = Filter::default();
    let mut format = Format::Json;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        match name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                filter.limit = limit.ok_or_else(|| {
                    Fault::query(
                        "limit",
                        format!("'limit' must be an integer from 1 to {MOST}, but it is '{value}'"),
                    )
                })?;
            }
            "before" => {
                let before: Option<RequestId> = value.parse().ok();
                filter.before = Some(before.ok_or_else(|| {
                    Fault::query(
                        "before",
                        format!("'before' must be a request id, but it is '{value}'"),
                    )
                })?);
            }
            "model" => filter.model = Some(value),
            "sla" => filter.sla = Some(value),
            "format" => {
                format = match value.as_str() {
                    "json" => Format::Json,
                    "csv" => Format::Csv,
                    _ => {
                        let message = format!("'format' must be json or csv, but it is '{value}'");
                        return Err(Fault::query("format", message));
                    }
                };
            }
            _ => {}
        }
    }
    Ok((filter, format))
}

/// Items that one answer may hold, and how many it holds unless told.
const MOST_ITEMS: usize = 100;
const ITEMS: usize = 20;

/// Reads the query string of a response's items. Unknown names are ignored, wrong values are not.
pub(super) fn item_query(query: &str) -> Result<ItemPage, Fault> {
    let mut page = ItemPage {
        after: None,
        limit: ITEMS,
        oldest_first: false,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        match name {
            "limit" => {
                let limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=MOST_ITEMS).contains(limit));
                page.limit = limit.ok_or_else(|| {
                    let message =
                        format!("'limit' must be an integer from 1 to {MOST_ITEMS}, but it is '{value}'");
                    Fault::query("limit", message)
                })?;
            }
            "order" => {
                page.oldest_first = match value.as_str() {
                    "asc" => true,
                    "desc" => false,
                    _ => {
                        let message = format!("'order' must be asc or desc, but it is '{value}'");
                        return Err(Fault::query("order", message));
                    }
                };
            }
            "after" => page.after = Some(value),
            _ => {}
        }
    }
    Ok(page)
}

/// Undoes percent-encoding; what is not validly encoded stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = bytes
            .get(at + 1..at + 3)
            .filter(|_| byte == b'%')
            .and_then(|digits| {
                let digits = std::str::from_utf8(digits)
                    .ok()
                    .filter(|digits| !digits.starts_with('+'))?;
                u8::from_str_radix(digits, 16).ok()
            });
        plain.push(match (byte, escaped) {
            (_, Some(escaped)) => escaped,
            (b'+', None) => b' ',
            (other, None) => other,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_read_and_wrong_values_are_told() {
        let (filter, format) = log_query("limit=5&model=org%2Fsmall+1&format=csv&other=1&").unwrap();
        assert_eq!(
            (filter.limit, filter.model.as_deref(), format),
            (5, Some("org/small 1"), Format::Csv)
        );
        assert_eq!(log_query("").unwrap(), (Filter::default(), Format::Json));
        for wrong in [
            "limit=0",
            "limit=x",
            "limit",
            "limit=1001",
            "before=7",
            "format=xml",
        ] {
            assert!(log_query(wrong).is_err(), "{wrong}");
        }
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%41"), "%zzA");
    }
}
