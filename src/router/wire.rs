//! A request's identity in the log: the text that users see.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

use crate::units::RequestId;

pub fn serialize<S: Serializer>(request: &RequestId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(request)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RequestId, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|()| D::Error::custom(format!("\"{text}\" is no request id")))
}
