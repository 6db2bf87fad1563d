//! Verdicts on answers, from users and from references: durable first, then learnt from.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::router::{Decision, LabelSource, RouterEvent};
use crate::store::{FeedbackOutcome, FeedbackRecord, RequestRecord};
use crate::units::RequestId;

use super::story::Finish;
use super::{DeskError, Inner};

/// A request's id as clients may write it: our own form, or the `id` of the answer they got.
pub(super) fn request_id(text: &str) -> Option<RequestId> {
    let bare = text
        .strip_prefix("chatcmpl-")
        .or_else(|| text.strip_prefix("cmpl-"));
    match bare {
        Some(digits) => format!("req_{digits}").parse().ok(),
        None => text.parse().ok(),
    }
}

/// What is kept of a verdict given now.
pub(super) fn verdict(satisfied: f64, source: &str) -> FeedbackRecord {
    let at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |passed| passed.as_secs_f64());
    FeedbackRecord {
        satisfied,
        source: source.to_owned(),
        at,
    }
}

impl Inner {
    pub(super) async fn feedback(
        self: &Arc<Self>,
        request: &str,
        satisfied: f64,
    ) -> Result<RequestId, DeskError> {
        let record = self.known(request).await?;
        let id = record.id;
        if [Finish::Cancelled, Finish::Failed]
            .iter()
            .any(|end| record.finish_reason.as_deref() == Some(end.word()))
        {
            return Err(DeskError::Unanswered { id });
        }
        let decision = self.decision_behind(&record);
        let weight = self.trust(record.sla.as_deref()).user;
        let trusted = decision.as_ref().filter(|_| weight > 0.0);
        let event = trusted.map(|decision| RouterEvent::Judged {
            request: id,
            model: decision.model,
            satisfied,
            weight,
            source: LabelSource::User,
            decision: None,
        });
        let desk = Arc::clone(self);
        let told = tokio::task::spawn_blocking(move || {
            desk.docket.judge(id, verdict(satisfied, "user"), event, decision)
        });
        let receipt = told.await.map_err(|_| DeskError::Lost)??;
        receipt.commit.await?;
        match receipt.outcome {
            FeedbackOutcome::Recorded | FeedbackOutcome::Repeated => {
                self.tell_feedback(&id.to_string(), satisfied);
                Ok(id)
            }
            FeedbackOutcome::Contradicts { was } => Err(DeskError::Contradiction { id, told: was }),
            FeedbackOutcome::Unknown => Err(DeskError::UnknownRequest {
                id: request.to_owned(),
            }),
        }
    }

    /// The decision behind a record, unless it was made for another zoo, whose models' numbers mean something else.
    fn decision_behind(&self, record: &RequestRecord) -> Option<Decision> {
        let decision: Decision = serde_json::from_value(record.decision.clone()).ok()?;
        let facts = self.engine.models().get(decision.model.index())?;
        (facts.name == record.model).then_some(decision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_by_three_names() {
        for text in [
            "req_00000000000000ff",
            "chatcmpl-00000000000000ff",
            "cmpl-00000000000000ff",
        ] {
            assert_eq!(request_id(text), Some(RequestId(255)), "{text}");
        }
        for text in [
            "",
            "ff",
            "req_ff",
            "chatcmpl-req_00000000000000ff",
            "req_zz000000000000ff",
        ] {
            assert_eq!(request_id(text), None, "{text}");
        }
    }
}
