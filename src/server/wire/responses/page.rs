//! `GET /v1/responses/{id}/input_items`: one page of a list of items.

use serde_json::{Value, json};

use super::item::Item;

/// Which items to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPage {
    /// The last item of the page before.
    pub after: Option<String>,
    pub limit: usize,
    pub oldest_first: bool,
}

/// A page of `items`, which come oldest first; `None` when none of them is the one to go on after.
pub fn item_page(mut items: Vec<Item>, page: &ItemPage) -> Option<Value> {
    if !page.oldest_first {
        items.reverse();
    }
    let begin = match &page.after {
        None => 0,
        Some(after) => items.iter().position(|item| item.id() == after)? + 1,
    };
    let rest = items.split_off(begin);
    let has_more = rest.len() > page.limit;
    let shown = &rest[..rest.len().min(page.limit)];
    Some(json!({
        "object": "list",
        "data": shown,
        "first_id": shown.first().map(Item::id),
        "last_id": shown.last().map(Item::id),
        "has_more": has_more,
    }))
}
