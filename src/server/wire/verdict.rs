//! `POST /v1/feedback`: the request.

use serde_json::Value;

use super::WireError;
use super::fields::{Fields, number_in};

/// What a user thinks of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// As the client wrote it.
    pub request: String,
    /// 0 to 1.
    pub satisfied: f64,
}

/// `satisfied` is true, false, or a share between.
pub fn verdict(body: &Value) -> Result<Verdict, WireError> {
    let fields = Fields::body(body)?;
    fields.required("request_id")?;
    let request = fields.text("request_id")?.unwrap_or_default().to_owned();
    let satisfied = match fields.required("satisfied")? {
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        value @ Value::Number(_) => number_in(value, "satisfied", 0.0..=1.0)?,
        other => {
            let wanted = "true, false or a number from 0 to 1";
            return Err(WireError::wrong_type("satisfied".to_owned(), wanted, other));
        }
    };
    Ok(Verdict { request, satisfied })
}

/// The service level that `POST /v1/router/reset` names; `default` without one.
pub fn reset_target(body: &Value) -> Result<String, WireError> {
    let fields = Fields::body(body)?;
    Ok(fields.text("sla")?.unwrap_or("default").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn satisfied_is_a_boolean_or_a_share() {
        let of = |satisfied: Value| verdict(&json!({"request_id": "req_1", "satisfied": satisfied}));
        assert_eq!(of(json!(true)).unwrap().satisfied, 1.0);
        assert_eq!(of(json!(false)).unwrap().satisfied, 0.0);
        assert_eq!(of(json!(0.25)).unwrap().satisfied, 0.25);
        for wrong in [json!(null), json!("yes"), json!(1.1), json!(-1), json!([true])] {
            assert_eq!(
                of(wrong.clone()).unwrap_err().param(),
                Some("satisfied"),
                "{wrong}"
            );
        }
        assert_eq!(
            verdict(&json!({"satisfied": true})).unwrap_err().param(),
            Some("request_id")
        );
    }
}
