//! One function an endpoint: from HTTP to the desk and back.

pub(super) mod feedback;
pub(super) mod generate;
pub(super) mod live;
pub(super) mod messages;
pub(super) mod models;
pub(super) mod requests;
pub(super) mod responses;
pub(super) mod router;
pub(super) mod status;
