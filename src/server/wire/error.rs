//! What can be wrong with a request before anything is asked of the engine.

use serde_json::Value;

use super::fields::kind;

/// A request that the gate turned away. Each says what is wrong and names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The body as a whole.
    #[error("{0}")]
    Body(String),
    #[error("'{param}' is missing")]
    Missing { param: String },
    /// The wrong type, or a value outside what is allowed.
    #[error("{message}")]
    Invalid { param: String, message: String },
    /// Part of the OpenAI API, but not of this build; ignoring it would change the answer.
    #[error("'{param}' is not supported yet by this build: {mend}")]
    Unsupported { param: String, mend: &'static str },
}

impl WireError {
    pub(super) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            param: param.into(),
            message: message.into(),
        }
    }

    pub(super) fn unsupported(param: impl Into<String>, mend: &'static str) -> Self {
        Self::Unsupported {
            param: param.into(),
            mend,
        }
    }

    pub(super) fn wrong_type(param: String, wanted: &str, got: &Value) -> Self {
        let message = format!("'{param}' must be {wanted}, but it is {}", kind(got));
        Self::Invalid { param, message }
    }

    pub(super) fn out_of_range(param: String, wanted: &str, got: &Value) -> Self {
        let message = format!("'{param}' must be {wanted}, but it is {got}");
        Self::Invalid { param, message }
    }

    /// The field to blame, by its path.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Body(_) => None,
            Self::Missing { param } | Self::Invalid { param, .. } | Self::Unsupported { param, .. } => {
                Some(param)
            }
        }
    }
}
